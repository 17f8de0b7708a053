"""A whole supervised training: it learns, resumes exactly, and exports what the product reads."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from marc_core.errors import ConfigError, TrainingError
from marc_core.models.model_settings import model_settings
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import vision_fingerprint
from marc_core.question import EventFilter, Question
from marc_core.rl.samples import TrainSample
from marc_core.supervised.config import SupervisedConfig
from marc_core.supervised.run import train_supervised
from marc_core.train_set.shards import SetShards, VideoRows
from marc_core.training.session import LocalSession

CHOICES = ("right", "letter", "option")


@pytest.fixture(scope="module")
def config(student_config, make_evidence, tmp_path_factory):
    """A run on 12 questions whose answers follow from the pictures' seed."""
    return small_run(tmp_path_factory.mktemp("supervised"), student_config(), make_evidence)


def small_run(root, student, make_evidence):
    """Write a set of 12 questions into `root`; return a configuration that trains on it."""
    shards = SetShards(str(root), "set")
    videos = []
    for video in range(6):
        rows = []
        for i in range(2):
            evidence = make_evidence(
                student, f"what is {'red' if i else 'a'} ?", groups=1, seed=video, choices=CHOICES
            )
            rows.append(
                TrainSample(
                    id=f"{video}/{i}",
                    question=Question(text="?", filter=EventFilter(video_ids=(str(video),))),
                    problem_type="multiple choice",
                    answers=("ABC"[(video + i) % 3],),
                    source=f"test/{i}",
                    evidence=evidence.to_bytes(),
                ).to_row()
                | {"teacher": b""}
            )
        videos.append(VideoRows(str(video), tuple(rows)))
    shards.write("00000", videos)
    return SupervisedConfig(
        train_set=shards.address,
        validation_set=shards.address,
        student=student,
        packed=str(root / "packed"),
        output=str(root / "run"),
        steps=24,
        questions_per_step=6,
        learning_rate=5e-3,
        log_every=1,
        save_every=8,
        validate_every=8,
    )


def run(config, output, session=LocalSession):
    config = dataclasses.replace(config, output=str(output))
    train_supervised(config, session(output, torch.device("cpu")))
    return [json.loads(line) for line in (output / "curves.jsonl").read_text().splitlines()]


class Killed(Exception):
    """What ends a run in the middle."""


class DyingSession(LocalSession):
    """Dies after its second checkpoint and two more steps."""

    def report(self, stage, step, metrics):
        if step == 18:
            raise Killed
        super().report(stage, step, metrics)


def test_it_learns_and_exports_a_student_of_the_same_tower(config, tmp_path):
    curve = run(config, tmp_path)
    losses = [point["loss"] for point in curve]
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    assert {p["step"] for p in curve if "held_out/overall" in p} == {8, 16}
    directory = tmp_path / "student"
    section = dataclasses.replace(config.student, model=str(directory))
    want = vision_fingerprint(config.student, StudentFiles(config.student).directory)
    assert vision_fingerprint(section, directory) == want
    assert model_settings(directory).event_facts
    card = (directory / "README.md").read_text()
    assert "12 questions" in card
    assert "python -m jobs.train_student" in card


def test_a_run_that_died_goes_on_with_the_same_losses(config, tmp_path):
    whole = run(config, tmp_path / "whole")
    with pytest.raises(Killed):
        run(config, tmp_path / "died", DyingSession)
    resumed = run(config, tmp_path / "died")
    tail = [p for p in resumed if p["step"] > 16][-8:]
    for got, want in zip(tail, whole[16:], strict=True):
        assert got["step"] == want["step"]
        assert got["loss"] == pytest.approx(want["loss"], abs=1e-5)


def test_a_loss_that_is_no_number_stops_the_run(config, tmp_path):
    with pytest.raises(TrainingError, match="learning_rate"):
        run(dataclasses.replace(config, learning_rate=1e20), tmp_path)


def test_a_run_needs_a_set(config, tmp_path):
    with pytest.raises(ConfigError, match="marc train-set"):
        run(dataclasses.replace(config, train_set=""), tmp_path)
