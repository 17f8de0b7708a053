"""Ray Train wiring: a small run, continued by a second driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.training.ray_train import check_resources, fit, forget
from marc_core.errors import ClusterError, ConfigError
from marc_core.training.config import TrainConfig
from tests.jobs.training.line import train_line


def run(output: Path, steps: int) -> list[dict[str, float]]:
    """Train the line up to so many steps; return the points of its curve."""
    config = TrainConfig(
        output=str(output), num_workers=1, save_every=1, log_every=1, weight_decay=steps
    )
    fit(train_line, config)
    return [json.loads(line) for line in (output / "curves.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_leaves_curve_and_checkpoint_and_forgets_both(ray_cluster, tmp_path):
    points = run(tmp_path, 3)
    assert [p["step"] for p in points] == [1, 2, 3]
    assert points[-1]["loss"] < points[0]["loss"]
    assert len(list((tmp_path / "ray").glob("checkpoint_*/weights.safetensors"))) == 2  # the last
    forget(tmp_path)
    assert not (tmp_path / "ray").exists()
    assert not (tmp_path / "curves.jsonl").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_second_driver_continues_the_run(ray_cluster, tmp_path):
    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "halves", 2)
    halves = run(tmp_path / "halves", 4)
    assert [p["step"] for p in halves] == [1, 2, 3, 4]
    assert [p["loss"] for p in halves] == [p["loss"] for p in whole]


@pytest.mark.ray
def test_too_many_workers_are_refused_at_once(ray_cluster):
    with pytest.raises(ConfigError, match="num_workers=99"):
        check_resources(TrainConfig(num_workers=99))


@pytest.mark.ray
def test_a_run_that_gets_no_place_says_what_is_missing(ray_cluster):
    import ray

    @ray.remote(num_cpus=1)
    class Busy:
        def ready(self) -> bool:
            return True

    busy = Busy.remote()
    ray.get(busy.ready.remote())
    with pytest.raises(ClusterError, match=r"needs 2 CPU \(1 free\)"):
        check_resources(TrainConfig(num_workers=1, start_timeout_s=1.0))
    ray.kill(busy)
    check_resources(TrainConfig(num_workers=1, start_timeout_s=60.0))


CONFIG = """
num_workers: 2
log_every: 1
stages:
- {name: vision, kind: vision, steps: 2, videos_per_step: 1}
- {name: all, steps: 2, videos_per_step: 1, questions: 2, scene_weight: 0.15}
"""


@pytest.mark.slow
def test_the_documented_command_trains_on_two_workers_of_its_own_ray(tmp_path):
    """Also on a machine with two CPUs, although the controller counts a third."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "jobs.train_sft", "--config", str(tmp_path / "small.yaml")]
    done = subprocess.run(
        [*command, f"output={tmp_path / 'run'}", "--address", "local"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    points = [json.loads(x) for x in (tmp_path / "run/curves.jsonl").read_text().splitlines()]
    assert [(p["stage"], p["step"]) for p in points] == [
        ("vision", 1),
        ("vision", 2),
        ("all", 1),
        ("all", 2),
    ]
    assert (tmp_path / "run/student/model.safetensors").is_file()
