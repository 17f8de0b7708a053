"""High frame rates: a part of the frames for the detector, cuts to the frame all the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from marc_core.config import EventConfig
from marc_core.events import ShotDetector, ThinnedDetector, transitions
from marc_core.events.thinning import differences, spread_scores

CONFIG = EventConfig()


class LastBeforeChange:
    """A shot detector: the last frame before a large step is a transition."""

    config = CONFIG

    def reset(self):
        self.frames = []

    def push(self, frames_FHWC):
        self.frames.append(frames_FHWC)

    def finish_with_dark(self):
        change_F = differences(np.concatenate(self.frames), None)
        return np.append(change_F[1:] > 20, False).astype(np.float32), np.zeros(len(change_F), bool)


def _drifting(lengths, step_px, seed=0):
    """Return (F, 27, 48, 3) uint8: shots of these lengths, each of a picture of its own that
    drifts by `step_px` a frame."""
    rng = np.random.default_rng(seed)
    shots = []
    for length in lengths:
        wide = np.kron(rng.integers(20, 236, (3, 12, 3)), np.ones((9, 16, 1)))
        lefts = np.arange(length) * step_px
        shots.append(np.stack([wide[:, int(x) : int(x) + 48] for x in lefts]))
    return np.concatenate(shots).astype(np.uint8)


def _boundaries(detector, frames, fps, config=CONFIG, chunk=256):
    thinned = ThinnedDetector(detector, fps)
    times_s = np.arange(len(frames)) / fps
    for first in range(0, len(frames), chunk):
        thinned.push(frames[first : first + chunk], times_s[first : first + chunk])
    scores, dark = thinned.finish_with_dark()
    assert scores.shape == dark.shape == times_s.shape
    found = transitions(scores, config.shot_threshold, times_s=times_s, dark_F=dark)
    return [t.boundary for t in found]


@pytest.mark.parametrize(
    ("fps", "stride"),
    [(None, 1), (10, 1), (25, 1), (29.97, 1), (30, 1), (50, 2), (59.94, 2), (60, 2), (100, 4),
     (120, 4), (240, 9)],
)  # fmt: skip
def test_ordinary_rates_are_left_alone_and_high_ones_come_near_27(fps, stride):
    assert CONFIG.stride(fps) == stride


@pytest.mark.parametrize("fps", [50, 59.94, 60, 90, 100, 120, 144, 200, 240])
def test_between_22_and_36_frames_a_second_are_given(fps):
    detector = LastBeforeChange()
    thinned = ThinnedDetector(detector, fps)
    frames, times_s = np.zeros((round(fps * 4), 27, 48, 3), np.uint8), np.arange(fps * 4) / fps
    thinned.push(frames, times_s.round(3)[: len(frames)])
    assert 22 <= sum(map(len, detector.frames)) / 4 <= 36


@pytest.mark.parametrize("fps", [None, 30, 60, 1000, 90_000])
def test_frames_that_are_not_dense_are_all_given_whatever_the_container_says(fps):
    detector = LastBeforeChange()
    times_s = (np.arange(90) / 30).round(3)
    ThinnedDetector(detector, fps).push(np.zeros((90, 27, 48, 3), np.uint8), times_s)
    assert sum(map(len, detector.frames)) == 90


@pytest.mark.parametrize("fps", [50, 60, 120, 240])
@pytest.mark.parametrize("chunk", [256, 7])
def test_a_cut_is_found_to_the_frame_wherever_it_falls(fps, chunk):
    lengths = [fps + i for i in range(9)]
    frames = _drifting(lengths, step_px=25 / fps)
    cuts = np.cumsum(lengths)[:-1].tolist()
    assert _boundaries(LastBeforeChange(), frames, fps, chunk=chunk) == cuts


def test_long_transitions_keep_their_place_and_short_ones_shrink_to_the_largest_step():
    scores_T = np.zeros(20, np.float32)
    scores_T[3:5], scores_T[10:16] = (0.7, 0.9), 0.8
    difference_F = np.zeros(40, np.float32)
    difference_F[[2, 9, 25]] = 30, 10, 50
    spread = spread_scores(scores_T, np.arange(0, 40, 2), difference_F, 0.5)
    assert [(t.first, t.last, t.boundary) for t in transitions(spread, 0.5)] == [
        (8, 8, 9), (20, 31, 26),
    ]  # fmt: skip
    assert spread[8] == np.float32(0.9)
    assert (spread[6:10] >= 0.5).all()  # half of the threshold still holds a fade together


def test_a_transition_at_the_last_frame_has_a_place():
    scores_T = np.array([0, 0, 0.9], np.float32)
    for F in (5, 6):
        spread = spread_scores(scores_T, np.array([0, 2, 4]), np.zeros(F, np.float32), 0.5)
        assert [t.first for t in transitions(spread, 0.5)] == [4]


def test_black_is_judged_frame_by_frame():
    frames = np.full((120, 27, 48, 3), 200, np.uint8)
    frames[41:60] = 0
    thinned = ThinnedDetector(LastBeforeChange(), 60.0)
    thinned.push(frames, np.arange(120) / 60)
    _, dark = thinned.finish_with_dark()
    assert np.flatnonzero(dark).tolist() == list(range(41, 60))


def test_at_an_ordinary_rate_the_detector_sees_what_it_saw():
    detector, frames = LastBeforeChange(), _drifting([40, 40], 0.5)
    assert _boundaries(detector, frames, 25) == [40]
    assert sum(map(len, detector.frames)) == 80


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_transnet_at_60_finds_the_cuts_that_it_finds_at_30(seed):
    torch.set_num_threads(1)
    lengths = [45, 37, 52, 41]
    at_60 = _drifting([2 * n for n in lengths], 0.4, seed)
    detector = ShotDetector(replace(CONFIG, quiet_range_grey=0.0))
    half = _boundaries(detector, at_60[::2], 30)
    assert half == np.cumsum(lengths)[:-1].tolist()
    assert _boundaries(detector, at_60, 60) == [2 * cut for cut in half]
    assert _boundaries(detector, np.repeat(at_60[::2], 2, axis=0), 60) == [2 * cut for cut in half]
    assert _boundaries(detector, at_60[1:], 60) == [2 * cut - 1 for cut in half]
