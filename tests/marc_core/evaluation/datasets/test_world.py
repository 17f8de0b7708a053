"""The world as a benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from marc_core.evaluation.config import HELD_OUT_SALT, EvaluateConfig
from marc_core.evaluation.datasets.questions import evenly, load_questions
from marc_core.evaluation.datasets.sample import NAMES_ONE_EVENT, BenchmarkError
from marc_core.evaluation.datasets.world import WorldLoader
from marc_core.world import render_frames, sample_video


def test_same_seed_same_questions_and_unique_ids() -> None:
    samples, data = load_questions(EvaluateConfig(questions=40))
    again, same = load_questions(EvaluateConfig(questions=40))
    assert (samples, data) == (again, same)
    assert len(samples) == len({s.problem_id for s in samples}) == 40
    other, changed = load_questions(EvaluateConfig(questions=40, seed=5))
    assert changed != data
    assert {s.path for s in other}.isdisjoint({s.path for s in samples[:10]})


def test_only_some_types_are_asked_with_the_ids_that_they_have_among_all() -> None:
    kept = ("speed", "which_event")
    some, _ = load_questions(EvaluateConfig(questions=12, only_tasks=kept))
    all_of_them, _ = load_questions(EvaluateConfig(questions=200))
    assert some == [s for s in all_of_them if s.task in kept][:12]
    with pytest.raises(BenchmarkError, match=r"types of the world's questions: .*Got 'sped'"):
        load_questions(EvaluateConfig(only_tasks=("sped",)))


def test_solutions_and_evidence_are_well_formed() -> None:
    samples, _ = load_questions(EvaluateConfig(questions=60))
    for sample in samples:
        if sample.problem_type == "multiple choice":
            index = ord(sample.solution) - ord("A")
            assert 0 <= index < len(sample.options)
        else:
            assert sample.options == ()
        assert all(a < b for a, b in sample.evidence)
        assert {"static", "temporal"} & set(sample.tags)
    assert any(NAMES_ONE_EVENT in s.tags for s in samples)


def test_footage_is_the_rendered_video_cut_at_the_truth() -> None:
    config = EvaluateConfig(questions=1)
    (sample,), _ = load_questions(config)
    loader = WorldLoader(config.world, 1.0)
    footage = loader.load(sample.path)
    video = sample_video(0, config.world)
    assert config.world.salt == HELD_OUT_SALT
    assert footage.spans == tuple((e.start_s, e.end_s) for e in video.events)
    assert np.concatenate(footage.positions).tolist() == list(range(len(footage.times_S)))
    frames = render_frames(video, footage.times_S.tolist())
    assert np.array_equal(footage.frames_SHWC, frames)
    assert loader.exists(sample.path)
    assert not loader.exists("world:7/0")


def test_evenly_keeps_order_and_ends() -> None:
    items = list(range(100))
    picked = evenly(items, 5)  # type: ignore[type-var]
    assert picked == [0, 25, 50, 74, 99]
    assert evenly(items, 0) == items  # type: ignore[type-var]
