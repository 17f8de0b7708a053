"""Kill -9 of one of two Ray Train workers: the run goes on from its checkpoint, to the same end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pytest
import ray

from jobs.training.ray_train import fit
from marc_core.training.config import TrainConfig
from tests.jobs.training.line import train_line
from tests.processes import descendants_named

STEPS = 12


def _drive(output: str) -> None:
    """Train on a cluster of its own: two workers and Ray Train's controller need three CPUs."""
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    config = TrainConfig(
        output=output, num_workers=2, save_every=1, log_every=1, weight_decay=STEPS
    )
    fit(train_line, config)


def _train(output, *, kill: bool) -> list[dict[str, float]]:
    driver = multiprocessing.get_context("spawn").Process(target=_drive, args=(str(output),))
    driver.start()
    curve = output / "curves.jsonl"
    try:
        if kill:
            _wait_for(lambda: curve.exists() and len(curve.read_text().splitlines()) >= 3)
            workers = descendants_named(driver.pid, "RayTrainWorker")
            assert len(workers) == 2
            os.kill(workers[1], signal.SIGKILL)
        driver.join(timeout=180)
        assert driver.exitcode == 0
    finally:
        driver.kill()
    return [json.loads(line) for line in curve.read_text().splitlines()]


def _wait_for(ready) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, "training never began"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_worker_costs_the_steps_since_the_checkpoint(tmp_path):
    whole = _train(tmp_path / "whole", kill=False)
    killed = _train(tmp_path / "killed", kill=True)
    assert [p["step"] for p in whole] == list(range(1, STEPS + 1))
    assert {p["step"] for p in killed} == set(range(1, STEPS + 1))
    losses = {p["step"]: p["loss"] for p in whole}
    assert all(p["loss"] == pytest.approx(losses[p["step"]], rel=1e-4) for p in killed)
    assert losses[STEPS] < losses[1]
