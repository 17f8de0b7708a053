"""One stage of training: the same function in this process and in a Ray Train worker.

for each step: task.batch(seed, step, rank) -> forward -> backward -> clip -> Muon and AdamW
every log_every steps: one point of the curve (means over the steps that had the metric);
every save_every steps: save(step)
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any

import torch
from torch import nn

from marc_core.errors import TrainingError
from marc_core.training.config import TrainConfig
from marc_core.training.optimizer import MuonAdamW
from marc_core.training.precision import products_dtype

Report = Callable[[int, dict[str, float]], None]
Save = Callable[[int], None]


def learning_rate(step: int, steps: int, peak: float, final: float = 0.1) -> float:
    """Return the rate of a step: linear warm-up over 5 %, then a cosine to `final` x `peak`."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * share)) / 2)


def run_stage(
    task: Any,
    optimizer: MuonAdamW,
    config: TrainConfig,
    *,
    steps: int,
    peak: float,
    final: float = 0.1,
    start: int,
    report: Report,
    save: Save,
    rank: int = 0,
    forward: nn.Module | None = None,
) -> None:
    """Train `task` from step `start` to `steps`.

    forward: the task wrapped for several workers (DDP); its batches still come from `task`.
    """
    module = forward or task
    device = next(task.parameters()).device
    halves = products_dtype(device) == torch.bfloat16
    module.train()
    since = time.perf_counter()
    seen: dict[str, list[float]] = defaultdict(list)
    for step in range(start, steps):
        rate = learning_rate(step, steps, peak, final)
        optimizer.set_rate(rate)
        batch = [_to(x, device) for x in task.batch(config.seed, step, rank)]
        with torch.autocast(device.type, torch.bfloat16, enabled=halves):
            loss, metrics = module(*batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(optimizer.parameters, config.clip_norm)
        check_finite(step, loss, norm)
        optimizer.step()
        for name, value in {"loss": float(loss.detach()), **metrics}.items():
            seen[name].append(value)
        done = step + 1
        if done % config.log_every == 0 or done == steps:
            count = (done - 1) % config.log_every + 1
            seconds = time.perf_counter() - since
            means = {name: fmean(values) for name, values in seen.items()}
            report(done, {**means, "learning_rate": rate, "step_s": seconds / count})
            since = time.perf_counter()
            seen.clear()
        if done % config.save_every == 0 or done == steps:
            save(done)


def check_finite(step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
    """Raise TrainingError before weights change by what is no number."""
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise TrainingError(
            f"Training stopped at step {step}: loss {loss.item()}, gradient norm {norm.item()}. "
            "The weights of the last checkpoint are good; start again from it with a lower "
            "learning_rate."
        )


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
