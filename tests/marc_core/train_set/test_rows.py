"""Rows hold what the product itself would show the student, and the right answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from marc_core.config import load_config
from marc_core.embed import load_encoder
from marc_core.evaluation.config import HELD_OUT_SALT
from marc_core.evaluation.variants.footage import Footage
from marc_core.models.student_files import StudentFiles
from marc_core.rl.samples import TrainSample
from marc_core.scoring.answers import score_answer
from marc_core.scoring.options import with_letters
from marc_core.train_set.config import TRAIN_SALT, TrainSetConfig
from marc_core.train_set.rows import Asked, RowMaker, drawn_budget
from marc_core.train_set.sources import WorldOpener, WorldSource, world_of


@pytest.fixture(scope="module")
def made():
    """(config, maker, footage, questions, samples) of one video of the world."""
    config = load_config(TrainSetConfig, preset="tiny", overrides=["num_videos=2", "first_seed=1"])
    maker = RowMaker(config, load_encoder(config.encoder))
    source = WorldSource(config)
    path = source.paths()[0]
    footage, asked = WorldOpener(config).load(path), source.asked(path)
    samples = [TrainSample.from_row(row) for row in maker.rows(footage, asked)]
    return config, maker, footage, asked, samples


def test_every_question_has_a_row_with_its_right_answer(made):
    _, _, footage, asked, samples = made
    assert [s.id for s in samples] == [a.sample.problem_id for a in asked]
    assert len(samples) > 20
    for sample, question in zip(samples, asked, strict=True):
        assert sample.source == f"world/{question.sample.task}"
        assert sample.question.filter.video_ids == (footage.video_id,)
        options = with_letters(sample.question.options)
        for answer in sample.answers:
            right = question.sample.solution
            assert score_answer(answer, right, sample.problem_type, options=options) == 1


def test_evidence_keeps_to_the_video_s_budget_and_tells_where_named_events_lie(made):
    config, _, _, _, samples = made
    budgets = {s.question.budget_tokens for s in samples}
    assert len(budgets) == 1
    assert budgets <= set(config.budgets)
    evidence = [s.student_evidence() for s in samples]
    assert all(1 <= e.num_tokens <= max(budgets) for e in evidence)
    tokenizer = StudentFiles(config.student).tokenizer
    told = [e for e in evidence if "Scene" in tokenizer.decode(e.after_ids).split("?")[0]]
    assert len(told) > len(evidence) / 2  # most questions name an event


def test_choices_are_the_options_in_their_order(made):
    *_, samples = made
    for sample in samples:
        assert sample.student_evidence().choices == tuple(sample.question.options)


def test_the_teacher_reads_all_frames(made):
    _, maker, footage, _, samples = made
    (evidence,) = maker.teacher(footage, [samples[0].question])
    groups = sum(-(-len(p) // 2) for p in footage.positions)
    assert evidence.num_tokens == 9 * groups
    assert evidence.vision_fingerprint == samples[0].student_evidence().vision_fingerprint


def test_the_teacher_s_evidence_is_stored_where_asked_for(made):
    config, maker, footage, asked, samples = made
    storing = RowMaker(dataclasses.replace(config, store_teacher=True), maker.encoder)
    (row,) = storing.rows(footage, asked[:1])
    (want,) = maker.teacher(footage, [samples[0].question])
    assert row["teacher"] == want.to_bytes()


def test_an_image_is_a_video_of_one_event_and_one_frame(made):
    _, maker, footage, asked, _ = made
    picture = Footage(
        video_id="picture",
        uri="picture.png",
        times_S=np.zeros(1),
        frames_SHWC=footage.frames_SHWC[:1],
        spans=((0.0, 1.0),),
        positions=(np.zeros(1, dtype=np.int64),),
    )
    sample = dataclasses.replace(asked[0].sample, data_type="image", path="picture.png")
    (row,) = maker.rows(picture, [Asked(sample=sample, answers=asked[0].answers)])
    read = TrainSample.from_row(row)
    assert read.is_image
    assert 1 <= read.student_evidence().num_tokens <= 9


def test_longer_videos_come_now_and_then():
    config = TrainSetConfig(long_every=4, long_lengths_s=(60.0, 90.0))
    lengths = [world_of(config, seed).min_duration_s for seed in range(9)]
    assert lengths == [60.0, 0, 0, 0, 90.0, 0, 0, 0, 60.0]
    assert world_of(TrainSetConfig(long_every=0), 0).min_duration_s == 0


def test_training_videos_are_not_those_of_the_evaluation():
    assert TrainSetConfig().world.salt == TRAIN_SALT != HELD_OUT_SALT


def test_budgets_are_drawn_alike_often():
    drawn = [drawn_budget((3, 9), 0, f"world:1/{i}") for i in range(400)]
    assert 150 < drawn.count(3) < 250
    assert drawn == [drawn_budget((3, 9), 0, f"world:1/{i}") for i in range(400)]


def test_some_types_are_asked_more_often():
    more = ("shape", "colour", "colour")
    config = TrainSetConfig(long_every=0, questions_per_type=1, more_of=more)
    kinds = [a.sample.task for a in WorldSource(config).asked("world:2000/3")]
    assert (kinds.count("shape"), kinds.count("colour")) == (2, 3)
    assert {kinds.count(kind) for kind in set(kinds) - set(more)} == {1}
