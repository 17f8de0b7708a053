"""Candidates by sketches and tiles against all pairs compared in full."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from marc_core.duplicates import candidates
from marc_core.duplicates.candidates import pairs_of_owners


@pytest.mark.parametrize("dim", [16, 200])
def test_they_are_those_of_all_pairs(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_ROWS", 37)
    monkeypatch.setattr(candidates, "_COLUMNS", 53)
    monkeypatch.setattr(candidates, "_PAIRS", 11)
    rng = np.random.default_rng(dim)
    scenes = rng.standard_normal((60, dim)) + 2 * rng.standard_normal(dim)
    noise = rng.uniform(0, 0.5, (300, 1)) * rng.standard_normal((300, dim))
    vectors = (scenes[rng.integers(60, size=300)] + noise).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rng.permutation(300)
    owners = rng.integers(12, size=300).astype(np.int32)
    lengths = rng.choice([2.0, 2.3, 5.0, 5.5, 9.0], size=300)
    wanted: Counter[tuple[int, int]] = Counter()
    near = 0
    for i, j in combinations(range(300), 2):
        cosine = float(vectors[rows[i]] @ vectors[rows[j]])
        near += 0.9 < cosine < 0.98
        if owners[i] != owners[j] and cosine >= 0.98 and abs(lengths[i] - lengths[j]) <= 0.5:
            wanted[tuple(sorted((int(owners[i]), int(owners[j]))))] += 1  # type: ignore[index]
    found = pairs_of_owners(
        rows, owners, lengths, lambda some: vectors[some], similarity=0.98, tolerance_s=0.5
    )
    assert found == wanted
    assert min(len(wanted), near) > 20  # both kinds of pairs are there
