"""Means of a step over all of its parts and workers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from marc_core.training.peers import Peers

Number = float | int | torch.Tensor


class Tally:
    """Adds up totals and counts under fixed names, the same on every worker."""

    def __init__(self, names: Sequence[str]) -> None:
        self._at = {name: i for i, name in enumerate(names)}
        self._sums = torch.zeros(len(names), 2, dtype=torch.float64)

    def add(self, name: str, total: Number, count: Number) -> None:
        """Add `count` values whose sum is `total`."""
        self._sums[self._at[name]] += torch.tensor([float(total), float(count)]).double()

    def means(self, peers: Peers) -> dict[str, float]:
        """Return the mean of every name that any worker has counted; called by all at once."""
        sums = peers.sum(self._sums)
        return {
            name: float(sums[i, 0] / sums[i, 1]) for name, i in self._at.items() if sums[i, 1] > 0
        }
