from fractions import Fraction

import numpy as np
import pytest

from marc_core.video.sampling import Clock, area_weights, make_sampler, output_size


def chosen(times, **kwargs):
    options = {"sample_fps": 1.0, "max_frames": 100, "start_s": times[0], "duration_s": None}
    sampler = make_sampler(**{**options, **kwargs})
    return [t for t in times if sampler.take(t)], sampler


def test_clock_keeps_good_times_untouched():
    clock = Clock(step_s=0.1)
    times = [-0.5, -0.4, 0.0, 7.25]
    assert [clock.next(t) for t in times] == times


def test_clock_repairs_missing_repeated_and_restarted_times():
    clock = Clock(step_s=0.1)
    got = [clock.next(t) for t in (5.0, None, 5.1, 5.0, 5.3, 0.0, 0.1, 9.0)]
    assert got == pytest.approx([5.0, 5.1, 5.101, 5.102, 5.3, 5.4, 5.5, 14.4])
    assert np.all(np.diff(got) > 0)


def test_clock_starts_where_the_stream_promises_without_a_first_timestamp():
    assert Clock(step_s=0.1, start_s=2.0).next(None) == 2.0


@pytest.mark.parametrize("start_s", [0.0, 1.075, -3.2])
@pytest.mark.parametrize("fps", [10, 25, 30000 / 1001, 0.7])
def test_samples_are_the_first_frames_at_or_after_each_instant(start_s, fps):
    times = [start_s + i / fps for i in range(200)]
    got, _ = chosen(times, duration_s=200 / fps, max_frames=1000)
    instants = np.arange(0, 200 / fps)
    expected = {next((t for t in times if t >= start_s + k - 1e-6), None) for k in instants}
    assert got == sorted(expected - {None})


def test_a_gap_gives_one_frame_not_many():
    got, _ = chosen([0.0, 0.5, 1.0, 7.3, 7.4, 8.0], duration_s=8.5)
    assert got == [0.0, 1.0, 7.3, 8.0]


def test_known_duration_stretches_the_interval():
    times = np.arange(0, 1000, 0.5).tolist()
    got, sampler = chosen(times, duration_s=1000.0, max_frames=100)
    assert len(got) == 100
    assert np.allclose(np.diff(got), 10.0)
    assert sampler.interval_s == 10.0


@pytest.mark.parametrize("max_frames", [1, 2, 7, 100])
def test_a_stream_without_end_stays_within_its_budget_and_covers_its_length(max_frames):
    times = np.arange(0, 5000, 0.5).tolist()
    got, _ = chosen(times, max_frames=max_frames)
    assert 1 <= len(got) <= max_frames
    assert got[0] == 0.0
    if max_frames == 100:
        assert got[:50] == [float(t) for t in range(50)]
        assert len([t for t in got if t > 100]) >= 20


def test_a_broken_promise_of_duration_stays_bounded():
    times = np.arange(0, 50_000, 0.5).tolist()
    got, _ = chosen(times, duration_s=10.0, max_frames=50)
    assert got[:11] == [float(t) for t in range(11)]
    assert len(got) <= 100


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (422, 236)),
        ((320, 240), (320, 240)),
        ((161, 97), (160, 96)),
        ((1, 1), (2, 2)),
        ((7680, 4320), (422, 236)),
    ],
)
def test_output_size(size, expected):
    assert output_size(*size, 128 * 28 * 28) == expected


@pytest.mark.parametrize("size", [(50_000, 2), (3, 9000), (640, 480), (4000, 3000), (99, 1)])
def test_output_size_keeps_its_bounds(size):
    width, height = output_size(*size, 10_000)
    assert width % 2 == 0
    assert height % 2 == 0
    assert width * height <= 10_000
    assert width <= size[0] + 1
    assert height <= size[1] + 1


def test_pixels_that_are_not_square_are_made_square_without_enlarging():
    assert output_size(720, 576, 10**6, Fraction(64, 45)) == (720, 404)
    assert output_size(720, 480, 10**6, Fraction(8, 9)) == (640, 480)
    assert output_size(720, 576, 10**6, Fraction(1, 1000)) == (720, 576)


@pytest.mark.parametrize(("length_in", "length_out"), [(64, 48), (64, 27), (8, 8)])
def test_area_weights_equal_the_integral(length_in, length_out):
    weights = area_weights(length_in, length_out)
    fine = np.repeat(np.arange(length_in, dtype=float) ** 2, length_out)
    expected = fine.reshape(length_out, length_in).mean(axis=1)
    np.testing.assert_allclose(weights @ (np.arange(length_in) ** 2), expected, rtol=1e-5)
