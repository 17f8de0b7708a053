"""The smallest training run there is, for tests of what Ray Train makes of it."""

from __future__ import annotations

import dataclasses

import torch

from marc_core.tiny.run import train_stage


class Line(torch.nn.Module):
    """y = w x; rank r sees x = r + 1, so that only averaged gradients give equal weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.linear.weight, 3.0)

    def batch(self, seed, step, rank):
        return (torch.tensor([[float(rank + 1)]]),)

    def forward(self, x):
        return (self.linear(x) ** 2).mean(), {}


def train_line(config, session):
    """Train `config.weight_decay` steps (a number that is free here)."""
    line = Line()
    restored = session.restore()
    if restored is not None:
        line.load_state_dict(restored.weights)
    train_stage(
        line,
        line,
        dataclasses.replace(config, weight_decay=0.0),
        session,
        stage=(0, "line", int(config.weight_decay), 0.1),
        muon_scale=5.0,
        restored=restored,
    )
