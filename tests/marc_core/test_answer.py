"""A question's whole way on a real memory: cached equals decoded, citations are true."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from marc_core.answer import answer_question, decode_features, find_events
from marc_core.config import AskConfig, IndexConfig, load_config
from marc_core.embed import load_encoder
from marc_core.errors import AnswerError
from marc_core.events import ShotDetector
from marc_core.fingerprints import features_name
from marc_core.indexing import decode_video, encode_video
from marc_core.memory import MemoryStore
from marc_core.models.loading import load_student
from marc_core.models.vision_tower import VisionTower
from marc_core.text import read_sidecar
from marc_core.video import IsolatedDecoder, list_videos
from marc_core.world import WorldConfig, sample_video, write_mp4

CAPTION = "1\n00:00:00,200 --> 00:00:01,000\nthe needle in the haystack\n"


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory):
    """Two indexed world videos of five scenes, the second with a caption; (store, models)."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("answer")
    (root / "archive").mkdir()
    world = WorldConfig(min_scenes=5, max_scenes=5, scene_lengths_s=(2.2, 4.0), cut_weight=1.0,
                        dissolve_weight=0.0, slow_weight=0.0)  # fmt: skip
    for seed in (1, 2):
        write_mp4(sample_video(seed, world), root / "archive" / f"video{seed}.mp4")
    (root / "archive" / "video2.srt").write_text(CAPTION)
    index = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[f"memory.uri='{root}/memory'", "events.change_points=false"],
    )
    encoder, student = load_encoder(index.encoder), load_student(index.student)
    tower = VisionTower(index.student)
    store = MemoryStore.open(
        index.memory, embedding_dim=encoder.dim, encoder_fingerprint=encoder.fingerprint,
        create=True,
    )  # fmt: skip
    detector = ShotDetector(index.events)
    with IsolatedDecoder(index.video) as decoder:
        for source in list_videos([str(root / "archive")], index.patterns, {}):
            decoded = decode_video(source.uri, decoder, detector)
            rows = encode_video(
                source, decoded, read_sidecar(source, {}), config=index, encoder=encoder,
                tower=tower,
            )  # fmt: skip
            store.publish(rows.videos, rows.events, rows.features, rows.texts)
    ask = load_config(AskConfig, preset="tiny", overrides=[f"memory.uri='{root}/memory'"])
    return store, encoder, student, ask, root


def test_cached_features_equal_fresh_ones(memory) -> None:
    store, encoder, student, ask, _ = memory
    hits = find_events("the red circle", store=store, encoder=encoder, config=ask)
    name = features_name(student.fingerprint, ask)
    cached = store.load_features([hit.event_id for hit in hits], name)
    with IsolatedDecoder(ask.video) as decoder, torch.inference_mode():
        for hit in hits:
            fresh = decode_features(hit, decoder, store, student, ask)
            stored = cached[hit.event_id]
            assert torch.equal(fresh.times_T, stored.times_T)
            torch.testing.assert_close(
                fresh.groups_TPD, stored.groups_TPD.to(student.dtype), rtol=2e-2, atol=2e-2
            )


def test_without_features_the_answer_is_the_same(memory) -> None:
    store, encoder, student, ask, _ = memory
    models = {"store": store, "encoder": encoder, "student": student}
    ask = dataclasses.replace(ask, options=("left", "right"), only_video=None)
    cached = answer_question("Which way does the object move?", **models, config=ask)
    other = dataclasses.replace(ask, compress=dataclasses.replace(ask.compress, restore_norm=True))
    assert cached.features == "cached"
    assert answer_question("Which way?", **models, config=other).features == "decoded"
    store.tables.features.delete("true")
    decoded = answer_question("Which way does the object move?", **models, config=ask)
    assert decoded.features == "decoded"
    assert (decoded.text, decoded.citations) == (cached.text, cached.citations)
    assert (decoded.visual_tokens, decoded.prompt_tokens) == (
        cached.visual_tokens,
        cached.prompt_tokens,
    )


def test_citations_are_events_of_the_memory_in_order(memory) -> None:
    store, encoder, student, ask, root = memory
    uri = str(root / "archive" / "video1.mp4")
    ask = dataclasses.replace(ask, only_video=uri)
    answer = answer_question(
        "What happens?", store=store, encoder=encoder, student=student, config=ask
    )
    assert answer.retrieval == "retrieved"
    assert len(answer.citations) == ask.retrieve.k
    starts = [c.start_s for c in answer.citations]
    assert starts == sorted(starts)
    video = store.get_video(uri)
    events = {e["index"]: e for e in store.events_of(video["video_id"]).to_pylist()}
    for citation in answer.citations:
        event = events[citation.event_index]
        assert (citation.uri, citation.start_s, citation.end_s) == (
            uri, event["start_s"], event["end_s"],
        )  # fmt: skip
        assert citation.thumbnail.startswith(b"\xff\xd8")
    assert answer.visual_tokens == 9 * ask.compress.budget_groups
    assert answer.visual_tokens < answer.visual_tokens_before
    assert set(answer.timings_s) == {"embed", "retrieve", "features", "compress", "generate"}


def test_retrieval_is_bypassed_when_everything_fits(memory) -> None:
    store, encoder, student, ask, root = memory
    retrieve = dataclasses.replace(ask.retrieve, k=5)
    uri = str(root / "archive" / "video1.mp4")
    ask = dataclasses.replace(ask, retrieve=retrieve, only_video=uri)
    models = {"store": store, "encoder": encoder, "student": student}
    answer = answer_question("What happens?", **models, config=ask)
    assert answer.retrieval == "bypassed"
    assert [c.event_index for c in answer.citations] == [0, 1, 2, 3, 4]
    assert {c.score for c in answer.citations} == {None}
    narrowed = dataclasses.replace(ask, end_s=3.0)
    assert answer_question("What happens?", **models, config=narrowed).retrieval == "retrieved"


def test_text_beside_a_video_is_found(memory) -> None:
    store, encoder, _, ask, _ = memory
    hits = find_events("needle in the haystack", store=store, encoder=encoder, config=ask)
    assert "haystack" in {hit.text.split()[-1] for hit in hits if hit.text}


@pytest.mark.parametrize(
    ("change", "question", "words"),
    [
        ({}, "   ", "must not be empty"),
        ({"only_video": "nowhere.mp4"}, "What?", "nowhere.mp4"),
        ({"camera": "none such"}, "What?", "No event"),
    ],
)
def test_errors_name_the_remedy(memory, change: dict, question: str, words: str) -> None:
    store, encoder, student, ask, _ = memory
    config = dataclasses.replace(ask, **change)
    with pytest.raises(AnswerError, match=words):
        answer_question(question, store=store, encoder=encoder, student=student, config=config)
