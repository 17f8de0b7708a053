"""A second round for work that was lost with its worker or node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

ROUNDS = 2
"""Ray retries tasks, but a block that dies with its node can be lost for good (our choice: once
more, then it is recorded as lost)."""


def in_rounds(
    todo: Sequence[T],
    run: Callable[[Sequence[T], int], object],
    without_outcome: Callable[[Sequence[T]], Sequence[T]],
) -> Sequence[T]:
    """Run what has no outcome yet, `ROUNDS` times at most; return what has none even then.

    `run` gets what is left and the number of the round, from 0.
    """
    left = todo
    for turn in range(ROUNDS):
        if left:
            run(left, turn)
            left = without_outcome(left)
    return left
