"""Ray Train wiring: a small run on two workers, continued by a second driver."""

from __future__ import annotations

import json

import pytest
import torch

from jobs.training.ray_train import check_resources, fit, forget
from marc_core.errors import ConfigError
from marc_core.training.config import TrainConfig
from marc_core.training.loop import run_stage
from marc_core.training.optimizer import MuonAdamW


class _Line(torch.nn.Module):
    """y = w x; rank r sees x = r + 1, so that only averaged gradients give equal weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.linear.weight, 3.0)

    def batch(self, seed, step, rank):
        return (torch.tensor([[float(rank + 1)]]),)

    def forward(self, x):
        return (self.linear(x) ** 2).mean(), {}


def _train(config, session):
    task = _Line()
    restored = session.restore()
    start = 0
    if restored is not None:
        task.load_state_dict(restored.weights)
        start = restored.step
    optimizer = MuonAdamW(task, muon_scale=5.0, weight_decay=0.0)
    if restored is not None:
        optimizer.load_state_dict(restored.optimizer)
    run_stage(
        task,
        optimizer,
        config,
        steps=int(config.weight_decay),
        peak=0.1,
        start=start,
        report=lambda step, metrics: session.report("line", step, metrics),
        save=lambda step: session.save(0, step, task.state_dict(), optimizer.state_dict()),
        rank=session.rank,
        forward=session.wrap(task),
    )


@pytest.mark.ray
def test_a_second_driver_continues_the_run(ray_cluster, tmp_path):
    def config(steps: int) -> TrainConfig:
        return TrainConfig(
            output=str(tmp_path), num_workers=1, save_every=1, log_every=1, weight_decay=steps
        )

    fit(_train, config(2))
    fit(_train, config(4))
    points = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [p["step"] for p in points] == [1, 2, 3, 4]
    assert points[-1]["loss"] < points[0]["loss"]
    forget(tmp_path)
    assert not (tmp_path / "ray").exists()


@pytest.mark.ray
def test_too_many_workers_are_refused_at_once(ray_cluster):
    with pytest.raises(ConfigError, match="num_workers=99"):
        check_resources(TrainConfig(num_workers=99))
