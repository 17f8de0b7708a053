"""In which order a run asks its questions: position -> row, for ever.

Each epoch is a permutation of its own, drawn from the seed alone: a resumed run, which knows only
its position, goes on where it was.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


class Order:
    """The rows of a training set of `size` questions, over and over."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def row(self, position: int) -> int:
        """Return the row that is asked at this place."""
        return int(_epoch(self.size, self.seed, position // self.size)[position % self.size])


@lru_cache(maxsize=2)
def _epoch(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
