"""Windows in which nothing changes are passed by, and all others have the scores they had."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from marc_core.config import EventConfig
from marc_core.events import ShotDetector, transitions
from marc_core.events.quiet import change_in, is_quiet, tile_means
from marc_core.events.shots import STEP, WINDOW

CONFIG = EventConfig()
KINDS = ("cut", "dissolve", "fade")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _picture(rng):
    """Return a (27, 48, 3) picture of soft patches, no two alike."""
    return np.kron(rng.integers(20, 236, (3, 6, 3)), np.ones((9, 8, 1)))


def _held(picture, F, rng, noise=1.5):
    """Return (F, 27, 48, 3) uint8: the picture held before a camera with noise."""
    return _pixels(picture + rng.normal(0, noise, (F, *picture.shape)))


def _pixels(values):
    return values.round().clip(0, 255).astype(np.uint8)


def _dissolve(a, b, F):
    share = np.linspace(0, 1, F + 2)[1:-1, None, None, None]
    return _pixels(a * (1 - share) + b * share)


def _quiet(frames):
    first, second = torch.from_numpy(frames).split(STEP)
    change = change_in(first, None, CONFIG)
    return is_quiet([change, change_in(second, change, CONFIG)], CONFIG)


def test_a_tile_is_the_mean_of_three_by_three_pixels_by_colour():
    frames = np.random.default_rng(0).integers(0, 256, (2, 27, 48, 3), np.uint8)
    expected = frames.reshape(2, 9, 3, 16, 3, 3).mean(axis=(2, 4)).transpose(0, 1, 3, 2)
    np.testing.assert_allclose(tile_means(torch.from_numpy(frames)), expected, rtol=1e-5)


class TestAWindow:
    rng = np.random.default_rng(1)
    a, b = _picture(rng), _picture(rng)

    def test_of_a_fixed_camera_with_noise_is_quiet(self):
        assert _quiet(_held(self.a, WINDOW, self.rng))

    def test_in_which_something_small_moves_is_quiet(self):
        frames = _held(self.a, WINDOW, self.rng)
        for i, frame in enumerate(frames):
            frame[9:15, i // 3 : i // 3 + 4] = 230
        assert _quiet(frames)

    @pytest.mark.parametrize("at", [1, 49, STEP, 99])
    def test_with_a_cut_is_not_wherever_it_is(self, at):
        held = _held(self.a, at, self.rng), _held(self.b, WINDOW - at, self.rng)
        assert not _quiet(np.concatenate(held))

    @pytest.mark.parametrize("F", [10, 50, 100])
    def test_of_a_slow_dissolve_is_not_though_no_step_of_it_is_large(self, F):
        held = _held(self.a, WINDOW - F, self.rng, 0), _dissolve(self.a, self.b, F)
        assert not _quiet(np.concatenate(held))

    def test_of_a_cut_between_pictures_of_the_same_grey_is_not(self):
        red, green = np.zeros((2, 27, 48, 3))
        red[..., 0], green[..., 1] = 120, 120
        held = _held(red, STEP, self.rng, 0), _held(green, STEP, self.rng, 0)
        assert not _quiet(np.concatenate(held))

    def test_is_never_quiet_with_a_range_of_0(self):
        still = torch.from_numpy(_held(self.a, STEP, self.rng, 0))
        change = change_in(still, None, CONFIG)
        assert is_quiet([change, change], CONFIG)
        assert not is_quiet([change, change], replace(CONFIG, quiet_range_grey=0.0))


def _both(frames, **settings):
    """Return the scores with quiet windows passed by, without, and the first detector."""
    detector = ShotDetector(EventConfig(**settings))
    every = ShotDetector(EventConfig(quiet_range_grey=0.0, **settings))
    scores = []
    for d in (detector, every):
        for piece in np.array_split(frames, 5):
            d.push(piece)
        scores.append(d.finish_with_dark())
    assert every.num_quiet == 0
    return scores, detector


@pytest.mark.parametrize(
    ("precision", "atol"), [("auto", 0.01), pytest.param("fp32", 1e-5, marks=pytest.mark.slow)]
)
def test_windows_that_are_not_passed_by_have_the_scores_they_had(precision, atol):
    """The network begins anew before the cut and is left behind it."""
    rng = np.random.default_rng(2)
    frames = np.concatenate([_held(_picture(rng), 150, rng) for _ in range(2)])
    ((scores, _), (expected, _)), detector = _both(frames, shot_precision=precision)
    assert (detector.num_windows, detector.num_quiet) == (2, 4)
    active = slice(2 * STEP, 4 * STEP)
    np.testing.assert_allclose(scores[active], expected[active], atol=atol)
    assert scores[active].max() > 0.9
    assert not scores[: active.start].any()
    assert not scores[active.stop :].any()
    assert expected[: active.start].max() < 0.1 > expected[active.stop :].max()


def test_a_video_in_which_nothing_happens_costs_the_network_nothing():
    rng = np.random.default_rng(3)
    detector = ShotDetector(CONFIG)
    detector.push(_held(_picture(rng), 730, rng))
    assert detector.finish().shape == (730,)
    assert (detector.num_windows, detector.num_quiet) == (0, 15)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_transition_between_held_pictures_flips(seed):
    """Cuts, dissolves and fades with long stills between them, where most windows are quiet."""
    rng = np.random.default_rng(seed)
    picture = _picture(rng)
    parts = [_held(picture, 120, rng)]
    for i in range(8):
        other, kind = _picture(rng), KINDS[i % 3]
        F = int(rng.integers(8, 40))
        if kind == "dissolve":
            parts.append(_dissolve(picture, other, F))
        elif kind == "fade":
            black = np.zeros_like(picture)
            parts += [_dissolve(picture, black, F), _dissolve(black, other, F)]
        parts.append(_held(other, int(rng.integers(60, 300)), rng))
        picture = other
    frames = np.concatenate(parts)
    both, detector = _both(frames)
    assert detector.num_quiet > 3
    times_s = np.arange(len(frames)) / 25
    cuts = [transitions(s, 0.5, times_s=times_s, dark_F=dark) for s, dark in both]
    assert [(t.first, t.last) for t in cuts[0]] == [(t.first, t.last) for t in cuts[1]]
    assert len(cuts[0]) >= 3
