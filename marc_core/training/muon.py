"""Muon in a precision that the processor multiplies itself, matrices of one shape together.

torch.optim.Muon orthogonalises in bfloat16 whatever the device; a processor without bfloat16
products works that out by conversion (`marc_core.training.precision`). Same rule and same result
but for rounding (see the test): Nesterov momentum, five Newton-Schulz steps, decoupled weight
decay, rate scaled by 0.2 * sqrt(max(rows, columns)) (Jordan et al. 2024; Liu et al. 2025).

Letters: K matrices of one shape, M rows, N columns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from marc_core.training.precision import products_dtype

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS, EPSILON, MOMENTUM = 5, 1e-7, 0.95
"""torch.optim.Muon's defaults."""


class Muon(torch.optim.Optimizer):
    """Muon for two-dimensional parameters."""

    def __init__(self, params: Sequence[torch.Tensor], *, weight_decay: float) -> None:
        super().__init__(params, {"lr": 1e-3, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None, "MuonAdamW steps without one"
        for group in self.param_groups:
            alike: dict[torch.Size, list[Any]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group["lr"], group["weight_decay"])

    def _update(self, parameters: list[Any], rate: float, decay: float) -> None:
        looked_ahead = []
        for p in parameters:
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            buffer = state["momentum_buffer"].lerp_(p.grad, 1 - MOMENTUM)
            looked_ahead.append(p.grad.lerp(buffer, MOMENTUM))
        directions = orthogonal(torch.stack(looked_ahead)).to(parameters[0].dtype)
        scale = 0.2 * math.sqrt(max(parameters[0].shape))
        for p, direction in zip(parameters, directions, strict=True):
            p.mul_(1 - rate * decay).add_(direction, alpha=-rate * scale)


def orthogonal(matrices_KMN: torch.Tensor) -> torch.Tensor:
    """Return the matrices with singular values near 1, in `products_dtype`."""
    a, b, c = COEFFICIENTS
    tall = matrices_KMN.shape[1] > matrices_KMN.shape[2]
    x = matrices_KMN.to(products_dtype(matrices_KMN.device))
    x = x.transpose(1, 2) if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(STEPS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x
