"""Sharing a budget of tokens out over events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marc_core.compress.share import BESIDE_SHARE, hits_within, quotas, spread_evenly


def test_hits_are_within_the_margin_of_the_best():
    assert hits_within(np.array([0.2, 0.5, 0.36, 0.34]), 0.15).tolist() == [1, 2]
    assert hits_within(np.array([0.4, 0.4]), 0.0).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("sizes", "hits", "budget", "expected"),
    [
        ([99, 99, 99], [0], 9, [7, 1, 1]),  # one event is named: 7 of 9, neighbours the rest
        ([99, 99], [0], 9, [7, 2]),
        ([99], [0], 9, [9]),
        ([99, 99, 99], [0, 1], 9, [4, 4, 1]),  # two are named
        ([99, 99], [0, 1], 9, [5, 4]),
        ([99, 99, 99, 99], [0, 1, 2, 3], 9, [3, 2, 2, 2]),  # none is named
        ([2, 99, 99], [0], 9, [2, 4, 3]),  # a small event passes its share on
        ([1, 1, 1], [0], 9, [1, 1, 1]),  # never more than there is
        ([99, 99, 99], [0], 1, [1, 0, 0]),
    ],
)
def test_shares(sizes, hits, budget, expected):
    assert quotas(sizes, hits, budget) == expected


def test_neighbours_get_more_where_they_are_asked_for():
    assert quotas([99, 99, 99], [0], 9, main_share=BESIDE_SHARE) == [5, 2, 2]
    assert quotas([99, 99], [0], 9, main_share=BESIDE_SHARE) == [5, 4]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(1, 60),
    st.data(),
)
def test_the_budget_is_used_up_and_never_exceeded(sizes, budget, data):
    num_hits = data.draw(st.integers(1, len(sizes)))
    given_ = quotas(sizes, range(num_hits), budget)
    assert sum(given_) == min(budget, sum(sizes))
    assert all(0 <= n <= size for n, size in zip(given_, sizes, strict=True))


def test_the_best_m_are_spread_over_time():
    assert spread_evenly([5.0, 1.0, 3.0, 2.0, 4.0], 3) == [1, 2, 0]
    assert spread_evenly([2.0, 1.0], 5) == [1, 0]
