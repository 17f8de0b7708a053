"""Counters that start again: only at their end, in either direction, wherever a video begins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marc_core.video.wrap import NEAR_S, Unwrap, wrap_after_s

PERIOD_S = 2**33 / 90_000


def unwrapped(stamps, period_s=PERIOD_S):
    unwrap = Unwrap(period_s)
    return [unwrap(stamp) for stamp in stamps]


@settings(max_examples=100)
@given(
    st.floats(0, PERIOD_S - 1), st.lists(st.floats(-1.0, 59.0), min_size=2, max_size=300), st.data()
)
def test_a_clock_that_goes_on_is_read_as_if_it_had_no_end(start_s, steps_s, data):
    true_s = start_s + np.cumsum([0.0, *steps_s])
    true_s = true_s[: np.argmax(true_s < 0) or None]
    shift_s = -PERIOD_S if start_s > PERIOD_S - NEAR_S else 0.0
    found = unwrapped(true_s % PERIOD_S)
    np.testing.assert_allclose(found, true_s + shift_s, atol=1e-6)


@given(st.floats(NEAR_S, PERIOD_S - NEAR_S), st.floats(0, PERIOD_S - NEAR_S))
def test_every_other_step_stays_as_it_is(before_s, after_s):
    if abs(after_s - before_s) < PERIOD_S - NEAR_S:
        assert unwrapped([before_s, after_s]) == [before_s, after_s]


def test_a_spoilt_stamp_beside_the_end_costs_itself_only():
    stamps = [PERIOD_S - 100, PERIOD_S - 50, 7.0, PERIOD_S - 49, None, PERIOD_S - 1, 0.5]
    expected = [-100, -50, 7.0, -49, None, -1, 0.5]
    found = unwrapped(stamps)
    assert [None if f is None else f - PERIOD_S for f in found] == pytest.approx(expected)


def test_counters_by_container():
    assert wrap_after_s("mpegts", 1 / 90_000) == pytest.approx(95_443.7, abs=0.1)
    assert wrap_after_s("flv", 1 / 1000) == pytest.approx(4_294_967.3, abs=0.1)
    assert wrap_after_s("matroska,webm", 1 / 1000) is None
    assert wrap_after_s("mpegts", None) is None
    assert unwrapped([5.0, 1.0, None], None) == [5.0, 1.0, None]
