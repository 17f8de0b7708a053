"""The clock against generated stamps: what is clean stays, what is spoilt costs itself only."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marc_core.video.clock import GAP_S, GAP_STEPS, HELD_S, Clock

STEP_S = 0.04


def run(stamps, step_s=STEP_S, start_s=0.0, shown_s=None):
    clock = Clock(step_s=step_s, start_s=start_s)
    times = []
    for i, stamp in enumerate(stamps):
        times += clock.push(stamp, 0.0 if shown_s is None else shown_s[i])
    times += clock.finish()
    assert len(times) == len(stamps)
    assert np.all(np.diff(times) > 0)
    return np.array(times), clock


@st.composite
def clean(draw, least=40):
    """An even or uneven film of ordinary steps, somewhere in time; and its usual step."""
    count = draw(st.integers(least, 120))
    step_s = draw(st.sampled_from([0.001, 1 / 60, 0.04, 0.1, 1.0]))
    start_s = draw(st.sampled_from([0.0, -3.2, 1.4, 50_000.0]))
    steps = np.full(count - 1, step_s)
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        steps *= rng.choice([0.5, 1.0, 1.0, 1.0, 2.0, 3.0], count - 1)
    return start_s + np.concatenate([[0.0], np.cumsum(steps)]), step_s


OUTLIERS = st.sampled_from([30.0, -30.0, 3600.0, -3600.0, 1e6, -1e6, 95_443.7])


@given(clean())
def test_clean_stamps_are_the_times(film):
    stamps, step_s = film
    times, clock = run(stamps, step_s)
    np.testing.assert_array_equal(times, stamps)
    assert (clock.gaps, clock.num_outliers, clock.num_seams) == ([], 0, 0)


@settings(max_examples=100)
@given(clean(), st.data())
def test_one_outlier_costs_one_frame(film, data):
    stamps, step_s = film
    at = data.draw(st.integers(0, len(stamps) - 1))
    spoilt = stamps.copy()
    spoilt[at] += data.draw(OUTLIERS) * max(1.0, 10 * step_s)
    times, clock = run(spoilt, step_s)
    others = np.arange(len(stamps)) != at
    np.testing.assert_array_equal(times[others], stamps[others])
    assert abs(times[at] - stamps[at]) <= 3 * step_s
    assert (clock.gaps, clock.num_outliers, clock.num_seams) == ([], 1, 0)


@given(st.integers(40, 200), st.data())
def test_an_outlier_of_any_size_shows_in_an_even_film(count, data):
    stamps = np.arange(count) * STEP_S
    at = data.draw(st.integers(1, count - 2))
    spoilt = stamps.copy()
    spoilt[at] += data.draw(st.floats(-3000, -1.1 * STEP_S) | st.floats(2.1 * STEP_S, 3000))
    times, clock = run(spoilt)
    np.testing.assert_allclose(times, stamps, atol=1e-9)
    assert (clock.gaps, clock.num_outliers, clock.num_seams) == ([], 1, 0)


@settings(max_examples=100)
@given(clean(), st.data())
def test_five_outliers_cost_five_frames_wherever_they_are(film, data):
    stamps, step_s = film
    indices = st.integers(0, len(stamps) - 1)
    together = st.integers(0, len(stamps) - 5).map(lambda i: list(range(i, i + 5)))
    where = data.draw(st.lists(indices, min_size=5, max_size=5, unique=True) | together)
    shift_s = data.draw(st.sampled_from([3600.0, -3600.0, 30.0, -30.0])) * max(1.0, 10 * step_s)
    spoilt = stamps.copy()
    spoilt[where] += shift_s
    times, clock = run(spoilt, step_s)
    others = ~np.isin(np.arange(len(stamps)), where)
    np.testing.assert_array_equal(times[others], stamps[others])
    assert (clock.gaps, clock.num_outliers, clock.num_seams) == ([], 5, 0)


@settings(max_examples=60)
@given(
    st.lists(st.integers(8, 60), min_size=2, max_size=12),
    st.sampled_from([1 / 60, 0.04, 0.1, 1.0]),
    st.sampled_from([0.0, 1.4, 50_000.0]),
)
def test_segments_that_each_start_anew_go_on_in_time(lengths, step_s, start_s):
    stamps = np.concatenate([start_s + np.arange(n) * step_s for n in lengths])
    times, clock = run(stamps, step_s)
    np.testing.assert_allclose(times, start_s + np.arange(sum(lengths)) * step_s, atol=1e-6)
    assert clock.num_seams == len(lengths) - 1
    assert (clock.gaps, clock.num_outliers) == ([], 0)


@pytest.mark.parametrize("length", range(1, 12))
def test_equal_segments_of_any_length_go_on_in_time(length):
    """Those too short to be believed are outliers, which in an even film go on, too."""
    stamps = np.tile(np.arange(length) * STEP_S, 12)
    times, clock = run(stamps)
    np.testing.assert_allclose(np.diff(times), STEP_S, atol=1e-6)
    assert clock.gaps == []


@settings(max_examples=60)
@given(st.integers(40, 120), st.floats(7, 5e4), st.sampled_from([1 / 60, 0.04, 1.0]), st.data())
def test_an_even_film_goes_on_wherever_its_clock_steps_back(count, back, step_s, data):
    """Seven frames back at least: from one frame behind the beginning to one before the end."""
    even = np.arange(count) * step_s
    at = data.draw(st.integers(1, count - 1))
    stepped = even.copy()
    stepped[at:] -= back * step_s
    times, clock = run(stepped, step_s)
    np.testing.assert_allclose(np.diff(times), step_s, atol=1e-6)
    assert clock.repaired
    assert clock.gaps == []


@pytest.mark.parametrize("back", range(1, 7))
@pytest.mark.parametrize("at", [20, 37, 60])
def test_a_step_back_by_six_frames_or_fewer_costs_no_more_than_their_time(back, at):
    stamps = np.arange(100) * STEP_S
    stamps[at:] -= back * STEP_S
    times, clock = run(stamps)
    assert times[-1] == pytest.approx((99 - back) * STEP_S)
    assert np.diff(times).max() <= STEP_S + 1e-9
    assert clock.gaps == []


@settings(max_examples=60)
@given(clean(), st.data())
def test_a_restart_anywhere_goes_on_in_time(film, data):
    stamps, step_s = film
    at = data.draw(st.integers(7, len(stamps) - 7))
    back_s = data.draw(st.sampled_from([20 * step_s, 30.0, 95_443.717688]))
    restarted = stamps.copy()
    restarted[at:] -= max(back_s, 20 * step_s) + stamps[at] - stamps[at - 1]
    times, clock = run(restarted, step_s)
    np.testing.assert_array_equal(times[:at], stamps[:at])
    np.testing.assert_allclose(np.diff(times[at:]), np.diff(stamps[at:]), atol=1e-6)
    assert 0 < times[at] - times[at - 1] <= 3 * step_s
    assert (clock.gaps, clock.num_seams, clock.num_outliers) == ([], 1, 0)


@settings(max_examples=60)
@given(clean(), st.data())
def test_a_jump_forward_is_a_gap_of_its_own_length(film, data):
    stamps, step_s = film
    at = data.draw(st.integers(8, len(stamps) - 8))
    longest_s = 3 * step_s  # of which a whole stretch may be, and then it is what is usual there
    jump_s = data.draw(st.floats(max(GAP_S, GAP_STEPS * longest_s) + 4 * step_s, 1e6))
    jumped = stamps.copy()
    jumped[at:] += jump_s
    times, clock = run(jumped, step_s)
    np.testing.assert_array_equal(times, jumped)
    ((start_s, end_s),) = clock.gaps
    assert end_s == jumped[at]
    assert stamps[at - 1] < start_s <= stamps[at - 1] + 3 * step_s
    assert clock.past_gaps_s == pytest.approx(jump_s, abs=3 * step_s)
    assert (clock.num_seams, clock.num_outliers) == (0, 0)


@given(st.integers(2, 30), st.integers(20, 200))
def test_frames_that_share_a_stamp_spread(sharing, count):
    stamps = np.arange(count) // sharing * 1.0
    times, clock = run(stamps, 1 / 25)
    whole = (count - 1) // sharing * sharing
    np.testing.assert_allclose(times[: whole + 1], np.arange(whole + 1) / sharing, atol=1e-9)
    assert times[-1] <= (count - 1) / sharing + 1.0
    assert clock.num_outliers == clock.num_seams == 0


def test_two_thousand_frames_a_second_in_milliseconds_last_as_long_as_they_last():
    stamps = (np.arange(4000) + 1) // 2 / 1000
    times, clock = run(stamps, 1 / 1000)
    np.testing.assert_allclose(times, np.arange(4000) / 2000, atol=1e-3)
    assert clock.step_s == pytest.approx(1 / 2000)


def test_missing_stamps_continue_by_the_step():
    times, _ = run([5.0, None, 5.08, 5.12, None, None, None])
    np.testing.assert_allclose(times, 5 + np.arange(7) * 0.04)


def test_a_stream_without_stamps_starts_where_it_promises():
    times, _ = run([None] * 50, 0.1, start_s=2.0)
    np.testing.assert_allclose(times, 2 + np.arange(50) / 10)


def test_a_clock_that_stands_still_does_not_stop_the_film():
    times, _ = run([1.0] * 500 + [1.0 + 0.04 * i for i in range(500, 600)])
    np.testing.assert_allclose(times, 1 + np.arange(600) * 0.04, atol=0.05)


def test_a_still_picture_is_held_not_a_gap():
    stamps = [*np.arange(50) * STEP_S, *(9.0 + np.arange(50) * STEP_S), *(18 + np.arange(9) * 9.9)]
    times, clock = run(stamps)
    np.testing.assert_array_equal(times, stamps)
    assert clock.gaps == []


@given(clean(), st.floats(GAP_S + 15, HELD_S - 1), st.data())
def test_a_picture_that_the_file_says_is_held_is_no_gap(film, held_s, data):
    stamps, step_s = film
    at = data.draw(st.integers(1, len(stamps) - 1))
    held = stamps.copy()
    held[at:] += held_s - (stamps[at] - stamps[at - 1])
    shown_s = [*np.diff(held), step_s]
    times, clock = run(held, step_s, shown_s=shown_s)
    np.testing.assert_array_equal(times, held)
    assert (clock.gaps, clock.num_outliers, clock.num_seams) == ([], 0, 0)


def test_a_clock_that_stood_for_minutes_is_a_gap_whatever_the_file_says():
    stamps = np.arange(60) * STEP_S
    stamps[30:] += HELD_S + 1
    _, clock = run(stamps, shown_s=[*np.diff(stamps), STEP_S])
    assert len(clock.gaps) == 1


def test_an_outlier_stays_one_beside_lengths_that_are_true():
    stamps = np.arange(60) * STEP_S
    spoilt = stamps.copy()
    spoilt[30] += 30.0
    times, clock = run(spoilt, shown_s=[STEP_S] * 60)
    np.testing.assert_allclose(times, stamps, atol=1e-9)
    assert (clock.gaps, clock.num_outliers) == ([], 1)


def test_a_slide_show_has_long_steps_and_no_gaps():
    stamps = np.arange(40) * 30.0
    times, clock = run(stamps, 30.0)
    np.testing.assert_array_equal(times, stamps)
    assert clock.gaps == []


@pytest.mark.parametrize("every_s", [15.0, 120.0, 3600.0])
@pytest.mark.parametrize("spoilt", [None, 3, 20])
def test_pictures_taken_every_few_minutes_keep_their_times(every_s, spoilt):
    """Whatever rate the stream promises; one of them may be stamped anywhere."""
    times = every_s * np.arange(40.0)
    stamps = times.copy()
    if spoilt is not None:
        stamps[spoilt] += 1e6
    found, clock = run(stamps, step_s=0.04)
    np.testing.assert_allclose(found, times, atol=1e-6)
    assert clock.gaps == []
    assert clock.num_outliers == (spoilt is not None)


@settings(max_examples=100)
@given(
    st.lists(
        st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0]),
        max_size=120,
    ),
    st.sampled_from([1e-5, 0.04, 100.0]),
)
def test_any_stamps_give_increasing_times(stamps, step_s):
    times, _ = run(stamps, step_s)
    assert all(math.isfinite(t) for t in times)


@pytest.mark.parametrize(
    "stamps",
    [
        lambda i: i * STEP_S,
        lambda i: None,
        lambda i: 7.0,
        lambda i: (i % 25) * STEP_S,
        lambda i: i * STEP_S + (30 if i % 9 == 0 else 0),
    ],
    ids=["clean", "missing", "stuck", "segments", "outliers"],
)
def test_memory_does_not_grow(stamps):
    clock, held, most = Clock(step_s=STEP_S), 0, 0
    for i in range(2000):
        held += 1 - len(clock.push(stamps(i)))
        most = max(most, held)
    tracemalloc.start()
    try:
        for i in range(2000, 6000):
            clock.push(stamps(i))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 80
    assert grown < 20_000
