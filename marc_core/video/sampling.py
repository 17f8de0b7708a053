"""Time and size mathematics of decoding: no codec, no file, only numbers.

pts of a frame --Clock--> time_s, strictly increasing --Sampler--> is it a sampled frame?
(width, height, pixel shape) --output_size--> size of the sampled frames
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOT_WIDTH, SHOT_HEIGHT = 48, 27
"""Size of the shot detector's frames (TransNetV2's input)."""

_TICK_S = 1e-3
"""Distance given to a frame whose timestamp repeats or steps back a little (our choice: below
every real frame distance, so that the next honest timestamp is met again)."""

_JUMP_S = 1.0
"""A step back longer than this is a new time base (joined transport streams, wrapped counters),
not a disorder of neighbours (our choice: longer than any reordering of frames)."""

_SLACK_S = 1e-6
"""Rounding of pts * time_base allowed when a frame is compared with a sampling instant."""


@dataclass(kw_only=True)
class Clock:
    """Turns presentation timestamps into strictly increasing seconds.

    A missing timestamp continues by `step_s`. One that repeats or steps back by at most a second
    moves on by a millisecond. One that steps back further begins a new time base, which is
    continued where the old one ended. Every other time is the source's own, untouched.
    """

    step_s: float
    start_s: float = 0.0
    last_s: float | None = None
    _offset_s: float = 0.0

    def next(self, time_s: float | None) -> float:
        """Return the time of the next frame in seconds; `time_s` is None without a timestamp."""
        if self.last_s is None:
            self.last_s = self.start_s if time_s is None else time_s
            return self.last_s
        if time_s is None:
            self.last_s += self.step_s
            return self.last_s
        time_s += self._offset_s
        if time_s < self.last_s - _JUMP_S:
            self._offset_s += self.last_s + self.step_s - time_s
            time_s = self.last_s + self.step_s
        self.last_s = time_s if time_s > self.last_s else self.last_s + _TICK_S
        return self.last_s


@dataclass(kw_only=True)
class Sampler:
    """Chooses sampled frames by time: the first frame, then the first at or after each instant.

    Instants lie `interval_s` apart, counted from the first frame. Up to `promised_end_s` (first
    frame plus the duration that the container promises) the interval never changes. Past it, or
    from the start when the container promises nothing, `budget` more frames may follow: each
    time half of what is left of them is spent, the interval doubles. So a stream without end
    stays bounded and its beginning, already handed over, needs no revision.
    """

    interval_s: float
    budget: int
    promised_end_s: float | None
    _start_s: float | None = None
    _next_s: float = -math.inf
    _spent: int = 0
    _left: int = 0

    def take(self, time_s: float) -> bool:
        """Return whether the frame at `time_s` (increasing from call to call) is sampled."""
        if self._start_s is None:
            self._start_s, self._left = time_s, self.budget
        if time_s < self._next_s - _SLACK_S:
            return False
        free = self.promised_end_s is not None and time_s < self.promised_end_s
        if not free and self._left <= 0:
            return False
        if not free:
            self._spend()
        steps = math.floor((time_s - self._start_s + _SLACK_S) / self.interval_s)
        self._next_s = self._start_s + (steps + 1) * self.interval_s
        return True

    def _spend(self) -> None:
        self._left -= 1
        self._spent += 1
        if self._left > 0 and self._spent >= self._left:
            self.interval_s *= 2
            self._spent = 0


def make_sampler(
    *, sample_fps: float, max_frames: int, start_s: float, duration_s: float | None
) -> Sampler:
    """Return the sampler of one video.

    The interval is 1 / sample_fps (paper, section 4: 1 fps), stretched so that a video of the
    promised duration gives at most `max_frames`.
    """
    interval_s = 1.0 / sample_fps
    if duration_s is None or duration_s <= 0:
        return Sampler(interval_s=interval_s, budget=max_frames, promised_end_s=None)
    interval_s = max(interval_s, duration_s / max_frames)
    end_s = start_s + duration_s
    return Sampler(interval_s=interval_s, budget=max_frames, promised_end_s=end_s)


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
