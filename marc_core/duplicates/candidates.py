"""Which videos may be copies of each other: a plain function on numbers, in bounded memory.

    events by length --tiles of those as long--> near in a sketch --> alike in full --> counted

The sketch is each vector's place along the directions in which the events differ most. A
projection brings no two vectors further apart, so what is too far apart in the sketch is not
alike: nothing is lost, and most pairs are settled by 64 numbers instead of all.

Letters: E events, D channels, S numbers of a sketch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

SKETCH = 64
"""Numbers of a sketch (our choice: 256 MB for a million events)."""
_SAMPLE = 8192
"""Events that its directions are taken from (our choice)."""
_ROWS, _COLUMNS = 2048, 8192
"""Events compared at a time (our choice: tiles of 64 MB)."""
_PAIRS = 4096
"""Pairs compared in full at a time (our choice: 25 MB where D is 768)."""
_SLACK = 1e-4
"""For the sketch's rounding, in squared distance."""

Vectors = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Unit vectors (E, D) of events by their numbers."""


def pairs_of_owners(
    rows_E: NDArray[np.int64],
    owners_E: NDArray[np.int32],
    lengths_E: NDArray[np.float64],
    vectors: Vectors,
    *,
    similarity: float,
    tolerance_s: float,
) -> Counter[tuple[int, int]]:
    """Return how many pairs of events two owners have that are alike and as long, lower owner
    first. rows_E: numbers of the events; the other arrays are theirs, in the same order."""
    order = np.argsort(lengths_E, kind="stable")
    rows_E, owners_E, lengths_E = rows_E[order], owners_E[order], lengths_E[order]
    sketch_ES, is_whole = _sketches(rows_E, vectors)
    counts: Counter[tuple[int, int]] = Counter()
    for i, j in _near(sketch_ES, lengths_E, similarity, tolerance_s):
        other = owners_E[i] != owners_E[j]
        for some in np.array_split(np.flatnonzero(other), max(1, -(-int(other.sum()) // _PAIRS))):
            one, two = i[some], j[some]
            if not is_whole and len(some):
                cosines = np.einsum("pd,pd->p", vectors(rows_E[one]), vectors(rows_E[two]))
                one, two = one[cosines >= similarity], two[cosines >= similarity]
            both = np.sort(np.stack([owners_E[one], owners_E[two]], 1), axis=1)
            found, times = np.unique(both, axis=0, return_counts=True)
            for (low, high), count in zip(found.tolist(), times.tolist(), strict=True):
                counts[low, high] += count
    return counts


def _sketches(rows_E: NDArray[np.int64], vectors: Vectors) -> tuple[NDArray[np.float32], bool]:
    """Return (E, S) sketches, and whether they are the vectors themselves."""
    step = max(1, -(-len(rows_E) // _SAMPLE))
    sample = vectors(rows_E[::step])
    if sample.shape[1] <= SKETCH:
        return vectors(rows_E), True
    middle = sample.mean(axis=0)
    spread = (sample - middle).T @ (sample - middle)
    directions = np.linalg.eigh(spread)[1][:, -SKETCH:].astype(np.float32)
    found = np.empty((len(rows_E), SKETCH), np.float32)
    for first in range(0, len(rows_E), _COLUMNS):
        some = vectors(rows_E[first : first + _COLUMNS])
        found[first : first + _COLUMNS] = (some - middle) @ directions
    return found, False


def _near(
    sketch_ES: NDArray[np.float32],
    lengths_E: NDArray[np.float64],
    similarity: float,
    tolerance_s: float,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (i, j), i < j, of events as long that are no further apart than `similarity` allows.

    Unit vectors of cosine c are sqrt(2 - 2 c) apart. lengths_E: ascending.
    """
    squares_E = np.einsum("es,es->e", sketch_ES, sketch_ES)
    most = 2 - 2 * similarity + _SLACK
    for first in range(0, len(lengths_E), _ROWS):
        last = min(first + _ROWS, len(lengths_E))
        reach = int(np.searchsorted(lengths_E, lengths_E[last - 1] + tolerance_s, side="right"))
        for start in range(first, reach, _COLUMNS):
            end = min(start + _COLUMNS, reach)
            products = sketch_ES[first:last] @ sketch_ES[start:end].T
            products *= 2
            products -= squares_E[first:last, None]
            i, j = np.nonzero(products >= squares_E[start:end] - most)
            i, j = i + first, j + start
            fits = (i < j) & (lengths_E[j] - lengths_E[i] <= tolerance_s)
            yield i[fits], j[fits]
