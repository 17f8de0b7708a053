"""From questions to evidence: over footage in memory, with the tiny preset's tower and prompt."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from marc_core.choosing import chronological
from marc_core.compress import capped
from marc_core.config import CompressConfig, MethodConfig, StudentConfig
from marc_core.errors import AnswerError, MissingFeaturesError
from marc_core.evaluation.variants.footage import Footage
from marc_core.evaluation.variants.footage_archive import FootageArchive
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import VisionTower
from marc_core.prepare import Preparer
from marc_core.prepared import PrepareSettings
from marc_core.question import EventFilter, Question, SearchQuery, Turn
from marc_core.types import EventFeatures

COLOURS = {
    "red": (200, 10, 10),
    "green": (10, 200, 10),
    "blue": (10, 10, 200),
    "grey": (90, 90, 90),
}
SECONDS = 4
PAPER = CompressConfig(mode="plain")


class ColourEncoder:
    """A frame's mean colour, and the colour words of a text; counts its calls."""

    dim = 3
    fingerprint = "0123456789ab"
    hit_margin = 0.15

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def encode_images(self, frames_NHWC: np.ndarray) -> np.ndarray:
        means = frames_NHWC.astype(np.float32).mean((1, 2)) + 1e-3
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts.append(list(texts))
        words = [[float(w in t) + 1e-3 for w in ("red", "green", "blue")] for t in texts]
        rows = np.array(words, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def footage(name: str, colours: Sequence[str], *, start_s: float = 0.0) -> Footage:
    """A video of one event of four seconds a colour, textured so that groups differ."""
    noise = np.random.default_rng(len(name)).integers(0, 40, (len(colours) * SECONDS, 84, 84, 3))
    base = np.repeat([COLOURS[c] for c in colours], SECONDS, axis=0)[:, None, None]
    times_S = start_s + np.arange(len(colours) * SECONDS, dtype=np.float64)
    return Footage(
        video_id=name,
        uri=f"/videos/{name}.mp4",
        start_s=start_s,
        times_S=times_S,
        frames_SHWC=(noise + base).clip(0, 255).astype(np.uint8),
        spans=tuple(
            (start_s + SECONDS * i, start_s + SECONDS * (i + 1)) for i in range(len(colours))
        ),
        positions=tuple(np.arange(SECONDS * i, SECONDS * (i + 1)) for i in range(len(colours))),
    )


@pytest.fixture(scope="module")
def tower() -> VisionTower:
    torch.set_num_threads(1)
    return VisionTower(StudentConfig(frame_max_pixels=84 * 84))


@pytest.fixture(scope="module")
def files() -> StudentFiles:
    return StudentFiles(StudentConfig(frame_max_pixels=84 * 84))


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def archive(tower: VisionTower, encoder: ColourEncoder) -> FootageArchive:
    return FootageArchive(
        [footage("first", ["green", "red", "blue", "red"]), footage("second", ["blue", "green"])],
        encoder=encoder,
        tower=tower,
        compress=PAPER,
        max_frames=64,
    )


def preparer(archive: Any, encoder: Any, files: StudentFiles, **changes: Any) -> Preparer:
    tower = changes.pop("tower", None)
    settings = PrepareSettings.of(MethodConfig(compress=PAPER), files.settings)
    settings = dataclasses.replace(settings, **changes)
    return Preparer(archive, encoder, files, settings, tower=tower)


ONE_VIDEO = EventFilter(video_ids=("first",))


def test_questions_are_embedded_together_and_events_shown_in_order_of_time(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    asked = [Question(text="what is red", filter=ONE_VIDEO), Question(text="what is blue", k=2)]
    red, blue = preparer(archive, encoder, files).choose(asked)
    assert encoder.texts == [["what is red", "what is blue"]]
    assert [hit.index for hit in red.hits] == sorted(hit.index for hit in red.hits)
    assert {1, 3} <= {hit.index for hit in red.hits}
    assert len(red.hits) == 3
    assert [(hit.video_id, hit.index) for hit in blue.hits] == [("first", 2), ("second", 0)]
    assert red.retrieval == blue.retrieval == "retrieved"


def test_a_follow_up_is_found_by_all_that_was_asked_and_reads_the_conversation(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    history = (
        Turn(role="user", text="Where is the blue one?"),
        Turn(role="assistant", text="It is behind the red one."),
    )
    question = Question(text="And how large?", history=history, k=1)
    path = preparer(archive, encoder, files)
    (chosen,) = path.choose([question])
    assert encoder.texts == [["Where is the blue one?\nAnd how large?"]]
    assert [hit.index for hit in chosen.hits] == [2]  # not the answer's red
    (evidence,) = path.prepare([question])
    before = files.tokenizer.decode(evidence.before_ids)
    assert before.index("Where is the blue") < before.index("behind the red")
    assert "And how large?" in files.tokenizer.decode(evidence.after_ids)


def test_retrieval_is_bypassed_where_one_video_fits(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    path = preparer(archive, encoder, files)
    second = EventFilter(video_ids=("second",))
    (whole,) = path.choose([Question(text="what", filter=second)])
    assert (whole.retrieval, [hit.index for hit in whole.hits]) == ("bypassed", [0, 1])
    assert encoder.texts == []
    (evidence,) = path.prepare([Question(text="what", filter=second)])
    assert [(c.score, c.cosine) for c in evidence.citations] == [(None, None)] * 2
    narrowed = dataclasses.replace(second, end_s=9.0)
    (found,) = path.choose([Question(text="what", filter=narrowed)])
    assert found.retrieval == "retrieved"
    off = dataclasses.replace(path.settings.retrieve, bypass_when_fits=False)
    path = preparer(archive, encoder, files, retrieve=off)
    assert path.choose([Question(text="what", filter=second)])[0].retrieval == "retrieved"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(text="  "), "must not be empty"),
        (Question(text="what", k=65), "retrieve.max_k, 64. Got 65"),
        (Question(text="what", k=0), "from 1 to"),
        (Question(text="what", filter=EventFilter(camera="none such")), "No event"),
        (Question(text="what", budget_tokens=8), "at least one frame's tokens, 9"),
        (Question(text="what", budget_tokens=8193), "max_budget_tokens, 8192. Got 8193"),
        (Question(text="what", budget_tokens=-1), "from 0"),
    ],
)
def test_what_cannot_be_asked_is_a_clear_error(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles, question: Any, words: str
) -> None:
    with pytest.raises(AnswerError, match=words):
        preparer(archive, encoder, files).prepare([question])


def test_the_budget_is_the_questions_the_calls_or_the_configured_one(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    twenty = dataclasses.replace(PAPER, budget_tokens=20)
    path = preparer(archive, encoder, files, compress=twenty)
    asked = [Question(text="red"), Question(text="red", budget_tokens=27)]
    uncut = path.load(path.choose(asked))
    assert [e.num_tokens for e in path.compress(uncut)] == [18, 27]  # whole groups of 9
    assert [e.num_tokens for e in path.compress(uncut, 9)] == [9, 9]
    assert [e.num_tokens for e in preparer(archive, encoder, files).prepare(asked[:1])] == [9]


def test_evidence_is_the_same_alone_and_together(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    asked = [Question(text=t, options=("red", "blue")) for t in ("what red", "which blue", "grey")]
    path = preparer(archive, encoder, files)
    together = path.prepare(asked)
    alone = [path.prepare([question])[0] for question in asked]
    assert [e.key for e in together] == [e.key for e in alone]
    assert [e.citations for e in together] == [e.citations for e in alone]
    assert together[0].choices == ("red", "blue")
    assert together[0].source_tokens == 3 * 2 * 9  # three events of two groups each
    assert together[0].vision_fingerprint == files.vision_fingerprint


class WithoutFeatures:
    """A memory that holds no features of some events; counts what is read of it."""

    def __init__(self, archive: FootageArchive, missing: set[str]) -> None:
        self.archive, self.missing = archive, missing
        self.read: list[list[str]] = []
        self.decoded: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.archive, name)

    def features(self, hits: Sequence[Any], **options: Any) -> list[EventFeatures]:
        lacking = [hit.event_id for hit in hits if hit.event_id in self.missing]
        if lacking:
            raise MissingFeaturesError(f"No features of {len(lacking)} events.", lacking)
        self.read.append([hit.event_id for hit in hits])
        return self.archive.features(hits, **options)

    def frames(self, hit: Any) -> Any:
        self.decoded.append(hit.event_id)
        return self.archive.frames(hit)


def test_an_event_of_several_questions_is_read_once(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    counting = WithoutFeatures(archive, set())
    path = preparer(counting, encoder, files)
    asked = [Question(text="what is red", k=2), Question(text="where is red", k=2)]
    first, second = path.load(path.choose(asked))
    assert first.origin == second.origin == "cached"
    assert counting.read == [["first:0000:00001", "first:0000:00003"]]


def test_missing_features_are_made_from_frames_or_are_an_error(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles, tower: VisionTower
) -> None:
    lacking = WithoutFeatures(archive, {"first:0000:00003"})
    question = Question(text="what is red", k=2)
    with pytest.raises(MissingFeaturesError):
        preparer(lacking, encoder, files).prepare([question])
    path = preparer(lacking, encoder, files, tower=lambda: tower)
    (uncut,) = path.load(path.choose([question]))
    assert uncut.origin == "decoded"
    assert lacking.decoded == ["first:0000:00003"]
    (made,) = path.compress([uncut])
    (stored,) = preparer(archive, encoder, files).prepare([question])
    torch.testing.assert_close(made.tokens_ND, stored.tokens_ND, rtol=1e-4, atol=1e-4)
    assert made.citations == stored.citations
    assert torch.equal(made.positions_N3, stored.positions_N3)


def test_a_picture_and_an_event_find_more_like_them(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles
) -> None:
    path = preparer(archive, encoder, files)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), COLOURS["blue"]).save(buffer, "PNG")
    by_picture, by_event, second_page = path.search(
        [
            SearchQuery(image=buffer.getvalue(), limit=2),
            SearchQuery(event_id="first:0000:00001", limit=1),
            SearchQuery(event_id="first:0000:00001", limit=2, offset=1),
        ]
    )
    assert [h.event_id for h in by_picture] == ["first:0000:00002", "second:0000:00000"]
    assert [h.event_id for h in by_event] == ["first:0000:00003"]
    everything = path.search([SearchQuery(event_id="first:0000:00001", limit=5)])[0]
    assert second_page == everything[1:3]
    assert "first:0000:00001" not in {h.event_id for h in everything}
    assert all(h.cosine is not None for h in everything)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (SearchQuery(), "exactly one of"),
        (SearchQuery(text="a", event_id="b"), "exactly one of"),
        (SearchQuery(text=" "), "must not be empty"),
        (SearchQuery(image=b"not a picture"), "no whole picture"),
        (SearchQuery(event_id="nowhere:0000:00000"), "no event"),
    ],
)
def test_searches_that_cannot_be_made(
    archive: FootageArchive, encoder: ColourEncoder, files: StudentFiles, query: Any, words: str
) -> None:
    with pytest.raises(AnswerError, match=words):
        preparer(archive, encoder, files).search([query])


def groups(num: int, start_s: float) -> EventFeatures:
    return EventFeatures(
        groups_TPD=torch.arange(num, dtype=torch.float32)[:, None, None] + start_s,
        grid_hw=(1, 1),
        times_T=start_s + torch.arange(num, dtype=torch.float32),
        num_source_groups=4 * num,
        deepstack_LTPD=torch.arange(num, dtype=torch.float32)[None, :, None, None],
        counts_T=torch.full((num,), 4.0),
    )


def test_the_cap_spreads_evenly_over_all_events() -> None:
    events = [groups(10, 0.0), groups(1, 100.0), groups(10, 200.0)]
    assert capped(events, 21) == events
    kept = capped(events, 5)
    assert [e.times_T.tolist() for e in kept] == [[0.0, 5.0], [100.0], [204.0, 209.0]]
    assert [len(e.counts_T) for e in kept] == [2, 1, 2]
    assert torch.equal(kept[0].deepstack_LTPD[0, :, 0, 0], torch.tensor([0.0, 5.0]))
    assert [e.times_T.tolist() for e in capped(events, 2)] == [[0.0], [209.0]]


def test_videos_keep_the_order_of_their_best_hit(archive: FootageArchive) -> None:
    by_id = {hit.event_id: hit for hit in archive.hits}
    ranked = ["second:0000:00001", "first:0000:00003", "second:0000:00000", "first:0000:00000"]
    ordered = [hit.event_id for hit in chronological([by_id[i] for i in ranked])]
    assert ordered == [ranked[2], ranked[0], ranked[3], ranked[1]]


def test_seconds_of_a_filter_count_from_the_videos_own_zero(
    tower: VisionTower, encoder: ColourEncoder
) -> None:
    late = FootageArchive(
        [footage("late", ["red", "blue"], start_s=1000.0)], encoder=encoder, tower=tower,
        compress=PAPER, max_frames=64,
    )  # fmt: skip
    found = late.events(EventFilter(end_s=4.0), limit=9)
    assert [(hit.start_s, hit.video_start_s) for hit in found] == [(1000.0, 1000.0)]
