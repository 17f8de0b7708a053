"""Two sequences of events laid over each other in time: a plain function on numbers.

    track a   |--a0--|---a1---|-a2-|----a3----|
    track b          |---b0---|-b1-|----b2----|     b is a1..a3, one offset later or earlier

A pair of events fits where their vectors are alike and their lengths equal. Pairs of one copy have
one offset in time; the copy is the chain of fitting pairs, rising in both tracks, that is longest
in seconds among all whose offsets lie within the tolerance of each other.

What repeats within a video proves nothing: a fixed camera looks the same for hours, so any two of
its hours would fit. Such events are left out where the offset is looked for (`distinct`).

Letters: E events of a track, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """A video's events in order of time. starts_E, lengths_E: float64 seconds. vectors_ED: unit
    float32 vectors."""

    starts_E: NDArray[np.float64]
    lengths_E: NDArray[np.float64]
    vectors_ED: NDArray[np.float32]


def distinct(vectors_ED: NDArray[np.float32], similarity: float) -> NDArray[np.bool_]:
    """Return (E,) whether no other event of the same track is as alike as `similarity`."""
    lonely_E = np.ones(len(vectors_ED), np.bool_)
    step = _rows(len(vectors_ED))
    for first in range(0, len(vectors_ED), step):
        alike = vectors_ED[first : first + step] @ vectors_ED.T >= similarity
        rows = np.arange(len(alike))
        alike[rows, first + rows] = False
        lonely_E[first : first + step] = ~alike.any(axis=1)
    return lonely_E


_PRODUCTS = 10_000_000
"""Pairs compared at a time (our choice: 50 MB)."""


def _rows(others: int) -> int:
    """Return how many events may be compared with so many others at a time."""
    return max(1, _PRODUCTS // max(1, others))


def aligned(
    a: Track, b: Track, *, similarity: float, tolerance_s: float, min_events: int
) -> list[Pair]:
    """Return the pairs (event of a, event of b) that are the same content, by time; or none.

    The offset is that of the longest chain of distinct events, of which there must be `min_events`;
    all events that fit at that offset are then part of it. similarity: least cosine.
    tolerance_s: most difference of lengths, and of offsets within a chain.
    """
    alone_a, alone_b = (np.flatnonzero(distinct(x.vectors_ED, similarity)) for x in (a, b))
    fitting = _fitting(a, b, alone_a, alone_b, similarity, tolerance_s)
    evidence = longest_chain(a, b, fitting, tolerance_s)
    if len(evidence) < min_events:
        return []
    offsets = [b.starts_E[j] - a.starts_E[i] for i, j in evidence]
    middle = (min(offsets) + max(offsets)) / 2
    return longest_chain(a, b, _at(a, b, middle, similarity, tolerance_s), tolerance_s)


def _fitting(
    a: Track,
    b: Track,
    of_a: NDArray[np.int64],
    of_b: NDArray[np.int64],
    similarity: float,
    tolerance_s: float,
) -> list[Pair]:
    """Return the pairs of these events that are alike and as long."""
    pairs: list[Pair] = []
    vectors_b, lengths_b = b.vectors_ED[of_b], b.lengths_E[of_b]
    step = _rows(len(of_b))
    for first in range(0, len(of_a), step):
        some = of_a[first : first + step]
        alike = a.vectors_ED[some] @ vectors_b.T >= similarity
        alike &= np.abs(a.lengths_E[some][:, None] - lengths_b[None, :]) <= tolerance_s
        i, j = np.nonzero(alike)
        pairs += zip(some[i].tolist(), of_b[j].tolist(), strict=True)
    return pairs


def _at(a: Track, b: Track, offset_s: float, similarity: float, tolerance_s: float) -> list[Pair]:
    """Return the pairs that fit and lie at one offset, but for the tolerance."""
    pairs: list[Pair] = []
    order = np.argsort(b.starts_E, kind="stable")
    starts = b.starts_E[order]
    for i, start_s in enumerate(a.starts_E + offset_s):
        first = np.searchsorted(starts, start_s - tolerance_s, side="left")
        end = np.searchsorted(starts, start_s + tolerance_s, side="right")
        near = order[first:end]
        fits = b.vectors_ED[near] @ a.vectors_ED[i] >= similarity
        fits &= np.abs(b.lengths_E[near] - a.lengths_E[i]) <= tolerance_s
        pairs += [(i, j) for j in near[fits].tolist()]
    return pairs


def longest_chain(a: Track, b: Track, pairs: Sequence[Pair], tolerance_s: float) -> list[Pair]:
    """Return the chain of `pairs`, rising in both tracks and with offsets within `tolerance_s` of
    each other, that covers most seconds of a.

    Every such chain has a pair of least offset, so all are met: for each pair as the least, the
    chain through those within the tolerance above it.
    """
    offset = {(i, j): b.starts_E[j] - a.starts_E[i] for i, j in pairs}
    ordered = sorted(pairs, key=lambda pair: offset[pair])
    offsets = np.array([offset[pair] for pair in ordered])
    ends = np.searchsorted(offsets, offsets + tolerance_s, side="right")
    seconds = np.concatenate([[0.0], np.cumsum([a.lengths_E[i] for i, _ in ordered])])
    best: list[Pair] = []
    best_s = 0.0
    for first, end in enumerate(ends):
        if seconds[end] - seconds[first] <= best_s:  # not even all of them together would do
            continue
        chain = _rising(a, sorted(ordered[first:end]))
        chain_s = float(sum(a.lengths_E[i] for i, _ in chain))
        if chain_s > best_s:
            best, best_s = chain, chain_s
    return best


def _rising(a: Track, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the chain of sorted pairs, strictly rising in both, of most seconds of a."""
    total: list[float] = []
    before: list[int] = []
    for at, (i, j) in enumerate(pairs):
        earlier = [k for k in range(at) if pairs[k][0] < i and pairs[k][1] < j]
        previous = max(earlier, key=lambda k: total[k], default=-1)
        before.append(previous)
        total.append(float(a.lengths_E[i]) + (total[previous] if previous >= 0 else 0.0))
    at = max(range(len(pairs)), key=lambda k: total[k])
    chain = []
    while at >= 0:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]
