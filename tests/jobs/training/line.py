"""The smallest training run there is, for tests of what Ray Train makes of it."""

from __future__ import annotations

import torch

from marc_core.training.loop import run_stage
from marc_core.training.optimizer import MuonAdamW


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
    """Train `config.weight_decay` steps (a number that is free here), as one stage of a run does.

    Only of `marc_core.training`: a worker that imports the models takes seconds longer to start.
    """
    line = Line()
    optimizer = MuonAdamW(line, muon_scale=5.0, weight_decay=0.0)
    restored = session.restore()
    if restored is not None:
        line.load_state_dict(restored.weights)
        optimizer.load_state_dict(restored.optimizer)
    run_stage(
        line,
        optimizer,
        config,
        steps=int(config.weight_decay),
        peak=0.1,
        start=0 if restored is None else restored.step,
        report=lambda step, metrics: session.report("line", step, metrics),
        save=lambda step: session.save(0, step, line.state_dict(), optimizer.state_dict()),
        rank=session.rank,
        forward=session.wrap(line),
    )
