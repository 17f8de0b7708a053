"""The whole of a C-GRPO run on Ray: trainer, both pools, a killed actor, export, report."""

from __future__ import annotations

import os
import signal

import pytest

from jobs.training.cgrpo_config import CGrpoJobConfig
from jobs.training.cgrpo_run import train
from jobs.training.run_log import curve, read_lines
from marc_core.config import StudentConfig, load_config
from marc_core.models.student_files import StudentFiles
from tests.jobs.training.train_sets import write_train_set
from tests.processes import descendants_named

SMALL = (
    "steps=6", "save_every=1", "rollout.questions=6", "rollout.answers=4",
    "rollout.teacher_answers=4", "rollout.max_tokens=8", "loss.kl=0.02", "learner.cpus=1",
    "teacher_pool.cpus=0.5", "rollout_pool.cpus=0.5", "rollout_pool.questions_a_call=3",
    "optimizer.kind=adamw",
)  # fmt: skip


def small(output, train_set, *overrides: str) -> CGrpoJobConfig:
    return load_config(
        CGrpoJobConfig,
        preset="tiny",
        overrides=[f"output='{output}'", f"train_set='{train_set}'", *SMALL, *overrides],
    )


@pytest.fixture(scope="module")
def train_set(tmp_path_factory):
    return write_train_set(tmp_path_factory.mktemp("set") / "rows", 24)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_run_with_a_killed_actor_ends_with_a_student(ray_cluster, tmp_path, train_set):
    """Two CPUs hold a worker, a teacher and a rollout actor, which dies after the first step."""
    config, killed = small(tmp_path / "run", train_set), []

    def kill_once(state) -> None:
        if state["step"] >= 1 and not killed:
            killed.extend(descendants_named(os.getpid(), "RolloutActor"))
            os.kill(killed[0], signal.SIGKILL)

    student = train(config, kill_once)
    points = curve(tmp_path / "run")
    assert [p["step"] for p in points] == [1, 2, 3, 4, 5, 6]
    assert all(0 <= p["score"] <= 1 and 0 < p["a_full"] <= 1 for p in points)
    assert all(p["sampler_gap"] < 1e-4 for p in points), "rollouts and trainer disagree"
    assert len(killed) == 1
    events = [e["event"] for e in read_lines(tmp_path / "run" / "events.jsonl")]
    assert any("rollout pool died and was started again" in text for text in events)
    assert (tmp_path / "run" / "report.html").read_text().count("<svg") >= 8
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    samples = read_lines(tmp_path / "run" / "samples.jsonl")
    assert len(samples[0]["student"]) == 4
    start = StudentFiles(config.student)
    trained = StudentFiles(StudentConfig(model=str(student), frame_max_pixels=7056))
    assert trained.vision_fingerprint == start.vision_fingerprint
    assert trained.settings == start.settings
    assert (student / "model.safetensors").read_bytes() != (
        start.directory / "model.safetensors"
    ).read_bytes()
    assert "6 steps of 6 questions, 4 answers each" in (student / "README.md").read_text()
