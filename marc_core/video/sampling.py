"""Time and size mathematics of decoding: no codec, no file, only numbers.

time_s of a frame --Sampler--> is it a sampled frame? --chunks--> SampleBuffer: those kept
(width, height, pixel shape) --output_size--> size of the sampled frames
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.types import FrameChunk

SHOT_WIDTH, SHOT_HEIGHT = 48, 27
"""Size of the shot detector's frames (TransNetV2's input)."""

_SLACK_S = 1e-6
"""Rounding of pts * time_base allowed when a frame is compared with a sampling instant."""


class Sampler:
    """Chooses sampled frames by time: the first frame, then the first at or after each instant.

    Instants lie `interval_s` apart, counted from the first frame. Whenever more than `max_frames`
    would be kept, the interval doubles and the samples between the wider instants are given up:
    what is kept is what a sampler with that interval would have taken from the beginning, whatever
    length the container promised.
    """

    def __init__(
        self, *, sample_fps: float, max_frames: int | None, start_s: float | None = None
    ) -> None:
        """Sample at `sample_fps` (paper, section 4: 1), at most `max_frames` >= 1 in all.

        start_s: of the video's first frame, where frames are given from a later one on; whether
        the first of those would have been sampled is not known, and it is not.
        """
        self.interval_s = 1.0 / sample_fps
        self.kept: list[float] = []
        """Times of the samples kept so far."""
        self._max_frames = max_frames
        self._next_s = -math.inf
        self._start_s = start_s
        self._joins = start_s is not None

    def take(self, time_s: float) -> bool:
        """Return whether the frame at `time_s` (increasing from call to call) is sampled."""
        if time_s < self._next_s - _SLACK_S:
            return False
        if self._start_s is None:
            self._start_s = time_s
        self._next_s = _next_instant(time_s, self._start_s, self.interval_s)
        if self._joins:
            self._joins = False
            return False
        self.kept.append(time_s)
        while self._max_frames is not None and len(self.kept) > self._max_frames:
            self.interval_s *= 2
            self.kept = [self.kept[i] for i in thin(self.kept, self.interval_s)]
            self._next_s = _next_instant(time_s, self._start_s, self.interval_s)
        return self.kept[-1] == time_s


def thin(times_S: Sequence[float], interval_s: float) -> list[int]:
    """Return the positions of the samples that a sampler of `interval_s` keeps of these."""
    kept, next_s = [], -math.inf
    for i, time_s in enumerate(times_S):
        if time_s >= next_s - _SLACK_S:
            kept.append(i)
            next_s = _next_instant(time_s, times_S[0], interval_s)
    return kept


def _next_instant(time_s: float, start_s: float, interval_s: float) -> float:
    return start_s + (math.floor((time_s - start_s + _SLACK_S) / interval_s) + 1) * interval_s


class SampleBuffer:
    """Collects the sampled frames of a stream of chunks, thinned as the stream was."""

    def __init__(self) -> None:
        self.interval_s = 0.0
        self._times: list[NDArray[np.float64]] = []
        self._index: list[NDArray[np.int64]] = []
        self._frames: list[NDArray[np.uint8]] = []
        self._num_frames = 0

    def add(self, chunk: FrameChunk) -> None:
        """Take the samples of the next chunk; give up what its interval leaves out."""
        if len(chunk.sampled_index):
            self._times.append(chunk.times_s[chunk.sampled_index])
            self._index.append(chunk.sampled_index + self._num_frames)
            self._frames.append(chunk.sampled_frames)
        self._num_frames += len(chunk.times_s)
        if chunk.sample_interval_s > self.interval_s and self._times:
            self._thin(chunk.sample_interval_s)
        self.interval_s = chunk.sample_interval_s

    def _thin(self, interval_s: float) -> None:
        kept = np.zeros(sum(map(len, self._times)), np.bool_)
        kept[thin(np.concatenate(self._times).tolist(), interval_s)] = True
        parts = np.split(kept, np.cumsum([len(part) for part in self._times])[:-1])
        for held in (self._times, self._index, self._frames):
            held[:] = [p[k] for p, k in zip(held, parts, strict=True) if k.any()]  # type: ignore[index]

    @property
    def index(self) -> NDArray[np.int64]:
        """(S,) indices of the samples among all frames."""
        return np.concatenate([*self._index, np.zeros(0, np.int64)])

    def finish(
        self, more: Mapping[int, NDArray[np.uint8]] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return (S,) indices and (S, H, W, 3) frames, with `more` by index among them.

        Empties the buffer on the way, so that nothing is held twice.
        """
        more = more or {}
        index = np.sort(np.concatenate([self.index, np.array(sorted(more), np.int64)]))
        frames = np.empty((len(index), *self._frames[0].shape[1:]), np.uint8)
        while self._frames:
            frames[np.searchsorted(index, self._index.pop())] = self._frames.pop()
        for i, frame_HWC in more.items():
            frames[np.searchsorted(index, i)] = frame_HWC
        return index, frames


def output_size(
    width: int, height: int, max_pixels: int, pixel_shape: Fraction | None = None
) -> tuple[int, int]:
    """Return the (width, height) of sampled frames of a picture, before rotation.

    Both even, at most `max_pixels` together, never larger than the source, shape of the shown
    picture kept: pixels that are not square (`pixel_shape`, width / height) are made square by
    shrinking the longer-sampled side. Pixel shapes beyond 4:1 are damage and ignored.
    """
    shown_w, shown_h = float(width), float(height)
    if pixel_shape is not None and Fraction(1, 4) <= pixel_shape <= 4:
        shown_w = width if pixel_shape >= 1 else float(width * pixel_shape)
        shown_h = float(height / pixel_shape) if pixel_shape > 1 else height
    scale = min(1.0, math.sqrt(max_pixels / (shown_w * shown_h)))
    out_w, out_h = _even(shown_w * scale), _even(shown_h * scale)
    # A strip thinner than two pixels is rounded up to two; the long side makes room for it.
    if out_w * out_h > max_pixels:
        out_w = out_w if out_w <= out_h else _even(max_pixels / out_h)
        out_h = out_h if out_h < out_w else _even(max_pixels / out_w)
    return out_w, out_h


def _even(length: float) -> int:
    return max(2, int(length + 1e-6) // 2 * 2)


def area_weights(length_in: int, length_out: int) -> NDArray[np.float32]:
    """Return (length_out, length_in) weights that average areas; every row sums to 1."""
    edges = np.arange(length_out + 1) * length_in / length_out
    left = np.maximum(edges[:-1, None], np.arange(length_in)[None])
    right = np.minimum(edges[1:, None], np.arange(1, length_in + 1)[None])
    overlap = np.clip(right - left, 0.0, None)
    weights: NDArray[np.float32] = overlap / overlap.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
