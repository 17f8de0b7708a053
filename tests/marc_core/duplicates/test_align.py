"""The longest chain of events that are the same, against all chains there are."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from marc_core.duplicates.align import Pair, Track, aligned, distinct, longest_chain

RULES = {"similarity": 0.98, "tolerance_s": 0.5, "min_events": 2}


def track(lengths: list[float], vectors: np.ndarray, first_s: float = 0.0) -> Track:
    starts = first_s + np.cumsum([0.0, *lengths[:-1]])
    return Track(starts_E=starts, lengths_E=np.array(lengths), vectors_ED=vectors)


def unit(rng: np.random.Generator, count: int, dim: int = 16) -> np.ndarray:
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(a: Track, b: Track, pairs: list[Pair], tolerance_s: float) -> float:
    """Return the seconds of the longest of all chains."""
    best = 0.0
    for count in range(len(pairs) + 1):
        for chain in combinations(sorted(pairs), count):
            rising = all(x[0] < y[0] and x[1] < y[1] for x, y in pairwise(chain))
            offsets = [b.starts_E[j] - a.starts_E[i] for i, j in chain]
            if rising and (not offsets or max(offsets) - min(offsets) <= tolerance_s):
                best = max(best, sum(a.lengths_E[i] for i, _ in chain))
    return best


@pytest.mark.parametrize("seed", range(40))
def test_no_chain_is_longer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracks = [
        track(rng.integers(1, 5, n).astype(float).tolist(), unit(rng, n), float(rng.integers(3)))
        for n in (5, 6)
    ]
    every = [(i, j) for i in range(5) for j in range(6)]
    pairs = [every[k] for k in rng.choice(len(every), 10, replace=False)]
    tolerance_s = float(rng.choice([0.5, 1.0, 3.0, 20.0]))
    chain = longest_chain(*tracks, pairs, tolerance_s)
    assert brute_force(*tracks, chain, tolerance_s) == sum(tracks[0].lengths_E[i] for i, _ in chain)
    assert set(chain) <= set(pairs)
    assert brute_force(*tracks, pairs, tolerance_s) == sum(tracks[0].lengths_E[i] for i, _ in chain)
    assert longest_chain(*tracks, [], tolerance_s) == []


def test_a_copy_that_was_cut_shorter_is_found_with_its_offset() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng, 6)
    noise = unit(rng, 6) * 0.1
    worse = (vectors + noise) / np.linalg.norm(vectors + noise, axis=1, keepdims=True)
    whole = track([4, 7, 3, 5, 6, 8], vectors)
    part = track([7.1, 2.9, 5.2, 2.0], np.concatenate([worse[1:4], unit(rng, 1)]))
    assert aligned(whole, part, **RULES) == [(1, 0), (2, 1), (3, 2)]
    assert aligned(part, whole, **RULES) == [(0, 1), (1, 2), (2, 3)]


def test_one_event_alone_or_in_another_order_is_no_copy() -> None:
    vectors = unit(np.random.default_rng(2), 4)
    one = track([4, 7, 3, 5], vectors)
    assert aligned(one, track([3, 7, 4], vectors[[2, 1, 0]]), **RULES) == []
    assert aligned(one, track([7], vectors[1:2]), **RULES) == []
    longer = track([4, 9, 3, 9], vectors)  # as alike, but not as long
    assert aligned(one, longer, **RULES) == []


def test_hours_of_a_fixed_camera_are_no_copies_of_each_other() -> None:
    rng = np.random.default_rng(3)
    still = unit(rng, 1) + unit(rng, 60) * 0.02
    still /= np.linalg.norm(still, axis=1, keepdims=True)
    hour, next_hour = track([60.0] * 30, still[:30]), track([60.0] * 30, still[30:])
    assert not distinct(hour.vectors_ED, 0.98).any()
    assert aligned(hour, next_hour, **RULES) == []


def test_what_repeats_is_part_of_a_copy_that_other_events_prove() -> None:
    rng = np.random.default_rng(4)
    speaker, rest = unit(rng, 1), unit(rng, 3)
    vectors = np.concatenate([rest[:1], speaker, rest[1:2], speaker, rest[2:]])
    one = track([4, 5, 3, 5, 6], vectors)
    assert aligned(one, one, **RULES) == [(i, i) for i in range(5)]
