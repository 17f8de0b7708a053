"""Mode tokens from question to evidence: events, shares, times and places, over footage."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from marc_core.compress.hierarchy import cut
from marc_core.config import CompressConfig, MethodConfig, StudentConfig
from marc_core.evaluation.variants.footage_archive import FootageArchive
from marc_core.models.student_files import StudentFiles
from marc_core.models.video_grid import video_grid
from marc_core.models.vision_tower import VisionTower
from marc_core.prepare import Preparer
from marc_core.prepared import PrepareSettings
from marc_core.question import EventFilter, Question
from tests.marc_core.test_prepare import ColourEncoder, footage

COLOURS = ["green", "red", "blue", "grey", "green", "blue"]
TICKS = 2
"""Tokens per second of the tiny preset."""


@pytest.fixture(scope="module")
def tower() -> VisionTower:
    return VisionTower(StudentConfig(frame_max_pixels=84 * 84))


@pytest.fixture(scope="module")
def files() -> StudentFiles:
    return StudentFiles(StudentConfig(frame_max_pixels=84 * 84))


@pytest.fixture
def make(tower: VisionTower, files: StudentFiles) -> Any:
    def make(*videos: Any, **changes: Any) -> Preparer:
        archive = FootageArchive(
            videos or [footage("first", COLOURS)], encoder=ColourEncoder(), tower=tower,
            compress=CompressConfig(), max_frames=64,
        )  # fmt: skip
        settings = PrepareSettings.of(MethodConfig(), files.settings)
        settings = dataclasses.replace(settings, **{"facts": False} | changes)
        return Preparer(archive, ColourEncoder(), files, settings)

    return make


def events_of(evidence: Any) -> list[int]:
    return [int(c.event_id[-5:]) for c in evidence.citations]


@pytest.mark.parametrize(
    ("text", "shares"), [("what is red", [1, 7, 1]), ("what comes after red", [2, 5, 2])]
)
def test_the_named_event_gets_most_tokens_and_each_its_own_time(
    make: Any, text: str, shares: list[int]
) -> None:
    path = make()
    (chosen,) = path.choose([Question(text=text)])
    assert [hit.index for hit in chosen.hits] == [0, 1, 2]
    assert chosen.matched == (1,)
    (uncut,) = path.load([chosen])
    (evidence,) = path.compress([uncut])
    assert evidence.num_tokens == 9
    seconds_N = evidence.positions_N3[:, 0].numpy() / TICKS
    per_event = [int(((seconds_N >= 4 * e) & (seconds_N < 4 * e + 4)).sum()) for e in range(3)]
    assert per_event == shares
    rows = cut(uncut.features[1], shares[1])
    expected = uncut.features[1].positions_R3[rows].numpy()
    shown = evidence.positions_N3[shares[0] : shares[0] + shares[1]].numpy()
    np.testing.assert_array_equal(shown[:, 0], np.floor((expected[:, 0] - 0.5) * TICKS + 0.5))
    np.testing.assert_array_equal(shown[:, 1:], np.floor(expected[:, 1:] + 0.5))


def test_a_question_that_names_none_sees_all_and_may_cost_more(make: Any) -> None:
    path = make(compress=CompressConfig(budget_tokens=8, unnamed_budget_tokens=18))
    named, unnamed = path.prepare([Question(text="red"), Question(text="blue or green")])
    assert (events_of(named), events_of(unnamed)) == ([0, 1, 2], [0, 1, 2, 3, 4, 5])
    assert (named.num_tokens, unnamed.num_tokens) == (8, 18)
    (asked,) = path.prepare([Question(text="blue or green", budget_tokens=5)])
    assert asked.num_tokens == 5


def test_options_choose_the_events_of_a_question_that_names_none(make: Any) -> None:
    path = make(compress=CompressConfig(budget_tokens=6, unnamed_budget_tokens=8))
    where = "Where is it blue or green or grey?"
    told, alone, numbers, few, named = path.prepare(
        [
            Question(text=where, options=("A. red", "B. green")),
            Question(text=where),
            Question(text=where, options=("2", "3")),
            Question(text=where, options=("red", "green"), budget_tokens=2),
            Question(text="what is red", options=("blue", "green")),
        ]
    )
    assert events_of(told) == [0, 1, 4]
    assert events_of(alone) == events_of(numbers) == [0, 1, 2, 3, 4, 5]
    assert len(events_of(few)) == 2
    assert events_of(named) == [0, 1, 2]
    assert (told.num_tokens, named.num_tokens) == (8, 6)
    assert path.encoder.texts[1:] == [["red", "green", "2", "3"]]  # one more call, for all of them


def test_a_question_without_options_costs_no_more(make: Any) -> None:
    path = make()
    path.prepare([Question(text="blue or green"), Question(text="red", options=("2", "3"))])
    assert len(path.encoder.texts) == 1


def test_small_budgets_read_only_what_they_take(make: Any, monkeypatch: Any) -> None:
    path = make()
    seen: list[int | None] = []
    features = path.archive.features

    def watched(hits: Any, *, max_tokens: int | None = None) -> Any:
        seen.append(max_tokens)
        return features(hits, max_tokens=max_tokens)

    monkeypatch.setattr(path.archive, "features", watched)
    path.prepare([Question(text="red", budget_tokens=5), Question(text="blue", budget_tokens=7)])
    assert seen == [7]


@pytest.mark.parametrize("start_s", [0.0, 50_000.0])
def test_times_count_from_the_videos_own_zero(make: Any, start_s: float) -> None:
    (evidence,) = make(footage("first", COLOURS, start_s=start_s)).prepare(
        [Question(text="what is red")]
    )
    assert 0 <= int(evidence.positions_N3[:, 0].min()) < 4 * TICKS
    assert int(evidence.positions_N3[:, 0].max()) < 12 * TICKS


def test_events_of_two_videos_stand_apart(make: Any) -> None:
    path = make(footage("first", ["grey", "red"]), footage("second", ["red", "grey"]))
    (chosen,) = path.choose([Question(text="what is red")])
    (evidence,) = path.compress(path.load([chosen]))
    videos = [c.video_id for c in evidence.citations]
    assert videos == sorted(videos, key=videos.index)
    assert set(videos) == {"first", "second"}
    ticks = evidence.positions_N3[:, 0].numpy()
    assert (np.diff(ticks) >= 0).all()


def test_beyond_the_trained_length_gaps_shrink_and_seconds_are_told(make: Any, files: Any) -> None:
    long = dataclasses.replace(
        footage("first", COLOURS),
        spans=tuple((4.0 * i + 7200 * (i > 2), 4.0 * i + 4 + 7200 * (i > 2)) for i in range(6)),
    )
    path = make(long, trained_s=54.0)
    (chosen,) = path.choose([Question(text="what is grey", k=3)])
    words = path._prompt(chosen).text
    assert "at 7212 seconds" in words
    assert words.endswith("what is grey")
    (evidence,) = path.compress(path.load([chosen]))
    assert int(evidence.positions_N3[:, 0].max()) <= 54 * TICKS
    assert path._prompt(make(trained_s=54.0).choose([Question(text="what is red")])[0]).text == (
        "what is red"
    )


def test_students_that_were_trained_so_are_told_where_named_events_lie(make: Any) -> None:
    path = make(facts=True)
    red, none = path.choose([Question(text="what is red"), Question(text="blue or green")])
    assert path._prompt(red).text == (
        "Scene 2 of 6: 4 seconds long, at 4 seconds, 25 %.\nwhat is red"
    )
    assert path._prompt(none).text == "blue or green"


def test_beyond_the_trained_length_too_they_are_told_of_the_named_event_alone(make: Any) -> None:
    long = dataclasses.replace(
        footage("first", COLOURS),
        spans=tuple((4.0 * i + 7200 * (i > 0), 4.0 * i + 4 + 7200 * (i > 0)) for i in range(6)),
    )
    named, none = Question(text="what is red"), Question(text="blue or green")

    def lines(path: Any) -> list[int]:
        return [path._prompt(c).text.count("seconds long") for c in path.choose([named, none])]

    assert lines(make(long, trained_s=54.0, facts=True)) == [1, 6]
    assert lines(make(long, trained_s=54.0)) == [3, 6]  # who knows no facts is told of all


def test_an_engine_without_own_positions_reads_a_video_of_one_token_groups(make: Any) -> None:
    grid = StudentFiles(StudentConfig(frame_max_pixels=84 * 84, temporal_positions="grid"))
    path = make(times_in_words=True)
    path.parts = grid
    (evidence,) = path.prepare([Question(text="what is red")])
    found = video_grid(evidence)
    assert (found.groups, found.height, found.width) == (9, 1, 1)
    words = grid.tokenizer.decode(evidence.after_ids)
    assert words.count("seconds long") == 3


def test_a_filter_on_time_keeps_neighbours_out(make: Any) -> None:
    where = EventFilter(video_ids=("first",), start_s=4.0)
    (evidence,) = make().prepare([Question(text="what is red", filter=where)])
    assert events_of(evidence) == [1, 2]
