"""Videos of 50 to 240 frames a second, thinned for the shot detector, which learned at about 25.

    all frames --every 2nd, 4th ...--> ShotDetector --> scores, held for the frames between
        |                                                       |
        +--- how far each is from the one before it ----> short transitions, each narrowed to
                                                          the frame before the cut

More frames make the detector worse, not only dearer: a dissolve of half a second at 100 frames a
second is too slow for it (docs/footage.md).

Shape letters: F frames of the video, T of them given to the detector.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from marc_core.events.shots import ShotDetector, is_dark, transitions

SHORT_RUN = 4
"""Thinned frames up to which a transition is a cut, to be found among all frames (measured)."""
_NEVER_THINNED = 0.95
"""Share of the interval at `thin_above_fps` from which on no frame is left out, whatever rate the
container promises (our choice: room for stamps in whole milliseconds)."""


class ThinnedDetector:
    """A shot detector of one video whose frame rate may be high; as `ShotDetector` otherwise.

    At an ordinary rate every frame goes straight on. Otherwise 5 bytes a frame are kept besides.
    """

    def __init__(self, detector: ShotDetector, fps: float | None) -> None:
        """fps: what the container says. Resets `detector`."""
        self._detector, self._config = detector, detector.config
        self._stride = self._config.stride(fps)
        self._least_s = 0.0
        if fps is not None and self._stride > 1:
            widest_s = _NEVER_THINNED / self._config.thin_above_fps
            self._least_s = min((self._stride - 0.5) / fps, widest_s)
        self._last_s = -np.inf
        self._last_frame: NDArray[np.uint8] | None = None
        self._given: list[NDArray[np.bool_]] = []
        self._dark: list[NDArray[np.bool_]] = []
        self._difference: list[NDArray[np.float32]] = []
        detector.reset()

    def push(self, frames_FHWC: NDArray[np.uint8], times_F: NDArray[np.float64]) -> None:
        """Take the next (F, 27, 48, 3) uint8 RGB frames of the video and when they are shown."""
        if self._stride == 1 or len(frames_FHWC) == 0:
            self._detector.push(frames_FHWC)
            return
        given_F = self._thin(times_F)
        self._given.append(given_F)
        self._dark.append(is_dark(torch.from_numpy(np.ascontiguousarray(frames_FHWC))).numpy())
        self._difference.append(differences(frames_FHWC, self._last_frame))
        self._last_frame = frames_FHWC[-1].copy()
        if given_F.any():
            self._detector.push(frames_FHWC[given_F])

    def finish_with_dark(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (F,) scores and (F,) whether the frame is black, of every frame pushed."""
        scores, dark = self._detector.finish_with_dark()
        if not self._given:
            return scores, dark
        given_T = np.flatnonzero(np.concatenate(self._given))
        difference_F = np.concatenate(self._difference)
        spread = spread_scores(scores, given_T, difference_F, self._config.shot_threshold)
        return spread, np.concatenate(self._dark)

    def _thin(self, times_F: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which frames are given: the first, then each that comes late enough after it."""
        given_F = np.zeros(len(times_F), np.bool_)
        for i, time_s in enumerate(times_F.tolist()):
            if time_s - self._last_s >= self._least_s:
                given_F[i], self._last_s = True, time_s
        return given_F


def differences(
    frames_FHWC: NDArray[np.uint8], before_HWC: NDArray[np.uint8] | None
) -> NDArray[np.float32]:
    """Return (F,) mean absolute differences of each frame from the one before it.

    before_HWC: the frame before them; None at a video's start, where the first answer is 0.
    """
    before = frames_FHWC[:1] if before_HWC is None else before_HWC[None]
    frames = np.concatenate([before, frames_FHWC]).astype(np.int16)
    mean_F: NDArray[np.float32] = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3), np.float32)
    return mean_F


def spread_scores(
    scores_T: NDArray[np.float32],
    given_T: NDArray[np.int64],
    difference_F: NDArray[np.float32],
    threshold: float,
) -> NDArray[np.float32]:
    """Return (F,) scores of all frames from those of the T frames `given_T`.

    Frames between have the score of the one before them, so a dissolve keeps its place. Of a
    transition of at most 4 thinned frames only one frame stays above `threshold`: the one before
    the largest step in it, where the cut is.
    """
    F = len(difference_F)
    ends_T = np.append(given_T[1:], F)
    scores_F = np.repeat(scores_T, ends_T - given_T)
    for run in transitions(scores_T, threshold):
        first, end = int(given_T[run.first]), int(ends_T[run.last])
        if run.last - run.first >= SHORT_RUN or end - first < 2:
            continue
        cut = first + 1 + int(difference_F[first + 1 : end + 1].argmax())
        scores_F[first:end] = np.minimum(scores_F[first:end], threshold)
        scores_F[cut - 1] = run.peak
    return scores_F
