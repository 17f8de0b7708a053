"""Random streams: one independent generator per purpose, so that nothing disturbs anything else.

A new question type draws from a stream of its own and therefore changes no video.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Purpose(IntEnum):
    """Purposes of random streams. Numbers are part of the world: never reuse or change one."""

    LAYOUT = 1
    EVENT = 2
    CAMERA = 3
    QUESTIONS = 4
    PARAPHRASE = 5
    ARCHIVE = 6


class Stream:
    """A generator of plain Python values, built on a seeded numpy PCG64.

    Uses doubles in [0, 1) only, the part of numpy's generators that has never changed.
    """

    def __init__(self, purpose: Purpose, *seeds: int) -> None:
        sequence = np.random.SeedSequence([int(purpose), *seeds])
        self._rng = np.random.Generator(np.random.PCG64(sequence))

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * float(self._rng.random())

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return int(float(self._rng.random()) * n)

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return float(self._rng.random()) < probability

    def choice(self, items: Sequence[T]) -> T:
        """Return one of `items`, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """Return one of `items` with probabilities proportional to `weights`."""
        x = self.uniform(0.0, sum(weights))
        for item, weight in zip(items, weights, strict=True):
            if x < weight:
                return item
            x -= weight
        return items[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return a random permutation of `items` (Fisher-Yates)."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.below(i + 1)
            result[i], result[j] = result[j], result[i]
        return result

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """Return at most `k` different items in random order."""
        return self.shuffled(items)[:k]


def mix(seed: int, key: int) -> int:
    """Return 64 well-mixed bits of (seed, key) (splitmix64); cheap enough for every frame."""
    mask = (1 << 64) - 1
    x = (seed * 0x9E3779B97F4A7C15 + key * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)
