"""Ray Train wiring: a small run, continued by a second driver."""

from __future__ import annotations

import json

import pytest

from jobs.training.ray_train import check_resources, fit, forget
from marc_core.errors import ConfigError
from marc_core.training.config import TrainConfig
from tests.jobs.training.line import train_line


@pytest.mark.ray
def test_a_second_driver_continues_the_run(ray_cluster, tmp_path):
    def config(steps: int) -> TrainConfig:
        return TrainConfig(
            output=str(tmp_path), num_workers=1, save_every=1, log_every=1, weight_decay=steps
        )

    fit(train_line, config(2))
    fit(train_line, config(4))
    points = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [p["step"] for p in points] == [1, 2, 3, 4]
    assert points[-1]["loss"] < points[0]["loss"]
    forget(tmp_path)
    assert not (tmp_path / "ray").exists()


@pytest.mark.ray
def test_too_many_workers_are_refused_at_once(ray_cluster):
    with pytest.raises(ConfigError, match="num_workers=99"):
        check_resources(TrainConfig(num_workers=99))
