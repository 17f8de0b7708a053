"""Where events stand in time for the student."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marc_core.compress.timeline import LEAST_GAP_S, Span, is_shortened, placed_starts

HOUR = 3600.0


def spans(*times: tuple[float, float], video: str = "a") -> list[Span]:
    return [Span(video, start, end) for start, end in times]


@pytest.mark.parametrize("at", [0.0, 9 * 60.0, 0.9 * HOUR])
def test_times_are_absolute_within_the_trained_length(at):
    shown = spans((at, at + 10), (at + 30, at + 40))
    starts = placed_starts(shown, HOUR)
    assert starts.tolist() == [at, at + 30]
    assert not is_shortened(shown, starts)


@pytest.mark.parametrize("at", [2 * HOUR, 24 * HOUR])
def test_gaps_shrink_beyond_it(at):
    shown = spans((60, 70), (at, at + 10), (at + 11, at + 20))
    starts = placed_starts(shown, HOUR)
    assert is_shortened(shown, starts)
    assert starts[-1] + 9 == pytest.approx(HOUR)
    assert starts[2] - starts[1] == pytest.approx(11)  # short gaps stay
    assert starts[1] > starts[0] + 10


def test_videos_stand_one_after_the_other():
    shown = [*spans((100, 110), (120, 130)), *spans((5, 8), video="b"), *spans((0, 1), video="c")]
    starts = placed_starts(shown, HOUR)
    assert starts.tolist() == [100, 120, 130 + LEAST_GAP_S + 5, 130 + LEAST_GAP_S + 8 + LEAST_GAP_S]


def test_durations_stay_where_nothing_can_be_shortened():
    starts = placed_starts(spans((0, 60), (60, 120), (120, 180)), 54.0)
    assert starts.tolist() == [0, 60, 120]


@given(
    st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(1, 3),
    st.sampled_from([54.0, 600.0, HOUR]),
)
def test_order_and_durations_are_kept_and_gaps_never_grow(pieces, videos, longest_s):
    shown = []
    for v in range(videos):
        at = 0.0
        for gap, length in pieces[v::videos]:
            shown.append(Span(str(v), at + gap, at + gap + length))
            at = shown[-1].end_s
    starts = placed_starts(shown, longest_s)
    ends = starts + np.array([s.end_s - s.start_s for s in shown])
    assert (starts[1:] >= ends[:-1] - 1e-6).all()
    for a, b, i in zip(shown, shown[1:], range(len(shown)), strict=False):
        if a.video == b.video:
            assert starts[i + 1] - ends[i] <= b.start_s - a.end_s + 1e-6
        else:
            assert starts[i + 1] - ends[i] >= min(LEAST_GAP_S, 1e9) - 1e-6
