import pytest
import torch
from torch import nn

from marc_core.training.config import TrainConfig
from marc_core.training.loop import run_stage
from marc_core.training.optimizer import MuonAdamW


class Slope(nn.Module):
    """Loss |w|; every second step has one more metric."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0]))

    def batch(self, seed: int, step: int, rank: int) -> tuple[int]:
        return (step,)

    def forward(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        metrics = {"step": float(step)} | ({} if step % 2 else {"even": float(10 + step)})
        return self.weight.abs().sum(), metrics


def test_points_are_means_over_the_steps_that_have_the_metric() -> None:
    task = Slope()
    points: list[tuple[int, dict[str, float]]] = []
    saved: list[int] = []
    run_stage(
        task,
        MuonAdamW(task, weight_decay=0.0, muon_scale=1.0),
        TrainConfig(log_every=4, save_every=3),
        steps=6,
        peak=0.01,
        start=0,
        report=lambda step, metrics: points.append((step, metrics)),
        save=saved.append,
    )
    assert [step for step, _ in points] == [4, 6]
    assert saved == [3, 6]
    assert points[0][1]["step"] == pytest.approx(1.5)
    assert points[0][1]["even"] == pytest.approx(11.0), "of steps 0 and 2, not of four"
    assert points[1][1]["even"] == pytest.approx(14.0), "nothing is left of the point before"
    assert points[1][1]["loss"] < points[0][1]["loss"] < 3.0
