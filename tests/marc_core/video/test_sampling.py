from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marc_core.types import FrameChunk
from marc_core.video.sampling import SampleBuffer, Sampler, area_weights, output_size


def chosen(times, *, max_frames=1000, sample_fps=1.0):
    sampler = Sampler(sample_fps=sample_fps, max_frames=max_frames)
    taken = [t for t in times if sampler.take(t)]
    assert set(sampler.kept) <= set(taken)
    return sampler.kept, sampler


@pytest.mark.parametrize("start_s", [0.0, 1.075, -3.2])
@pytest.mark.parametrize("fps", [10, 25, 30000 / 1001, 0.7])
def test_samples_are_the_first_frames_at_or_after_each_instant(start_s, fps):
    times = [start_s + i / fps for i in range(200)]
    got, _ = chosen(times)
    instants = np.arange(0, 200 / fps)
    expected = {next((t for t in times if t >= start_s + k - 1e-6), None) for k in instants}
    assert got == sorted(expected - {None})


def test_a_gap_gives_one_frame_not_many():
    got, _ = chosen([0.0, 0.5, 1.0, 7.3, 7.4, 8.0])
    assert got == [0.0, 1.0, 7.3, 8.0]


@st.composite
def films(draw):
    """Times with gaps, several frames between samples or several samples between frames."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = rng.choice([0.04, 0.3, 1.7, 40.0], draw(st.integers(1, 400)), p=[0.5, 0.3, 0.15, 0.05])
    return (draw(st.sampled_from([0.0, -5.7, 5e4])) + np.cumsum(steps)).tolist()


@given(films(), st.integers(1, 60))
def test_too_many_samples_are_those_of_a_wider_interval(times, max_frames):
    got, sampler = chosen(times, max_frames=max_frames)
    assert 1 <= len(got) <= max_frames
    assert got[0] == times[0]
    again, _ = chosen(times, max_frames=10**6, sample_fps=1 / sampler.interval_s)
    assert got == again
    if sampler.interval_s > 1:
        denser, _ = chosen(times, max_frames=10**6, sample_fps=2 / sampler.interval_s)
        assert len(denser) > max_frames


@given(films(), st.integers(1, 60), st.integers(1, 50))
def test_the_buffer_keeps_what_the_sampler_keeps(times, max_frames, chunk_frames):
    sampler, buffer = Sampler(sample_fps=1.0, max_frames=max_frames), SampleBuffer()
    for first in range(0, len(times), chunk_frames):
        here = times[first : first + chunk_frames]
        index = [i for i, t in enumerate(here) if sampler.take(t)]
        buffer.add(
            FrameChunk(
                times_s=np.array(here),
                shot_frames=np.zeros((len(here), 27, 48, 3), np.uint8),
                sampled_index=np.array(index, np.int64),
                sampled_frames=np.array([first + i for i in index], np.int64).reshape(-1, 1, 1, 1),
                sample_interval_s=sampler.interval_s,
            )
        )
    expected = [times.index(t) for t in sampler.kept]
    assert buffer.index.tolist() == expected
    left_out = next((i for i in range(len(times)) if i not in expected), None)
    more = {} if left_out is None else {left_out: np.full((1, 1, 1), 7, np.uint8)}
    index, frames = buffer.finish(more)
    assert index.tolist() == sorted(expected + list(more))
    values = [7 if i == left_out else i % 256 for i in index]
    assert frames.flatten().tolist() == values


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
