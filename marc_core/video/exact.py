"""Exact frames at known source times, with the pixels that the sampled stream gave.

times -> for each run of near times: seek two keyframes back, decode forward, match by time
      -> any doubt (time not met, decode error, container without an index): whole pass
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from marc_core.errors import UnreadableVideoError
from marc_core.video.decode import make_clock, sampled_scaler
from marc_core.video.pyav import OpenVideo, open_video

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig

_SLACK_S = 1e-4
"""Rounding allowed when a stored time is compared with a frame's (stored as float64)."""


def read_frames(
    path: str | Path,
    times_s: Sequence[float],
    config: VideoConfig,
    *,
    on_frame: Callable[[], None] | None = None,
) -> list[NDArray[np.uint8]]:
    """Return one (H, W, 3) uint8 RGB frame for each of `times_s`, in their order.

    Times are source timestamps as decoding gave them (FrameChunk.times_s); the frames equal the
    sampled frames of the same times. Raises what `decode` raises, and UnreadableVideoError for
    a time at which the file has no frame.
    """
    wanted = sorted(set(times_s))
    with open_video(path, config) as video:
        found = _sequential(video, wanted, config, on_frame)
    missing = [t for t in wanted if t not in found]
    if missing:
        raise UnreadableVideoError(
            f"'{path}' has no frame at {missing[0]:.6f} s ({len(missing)} of {len(wanted)} times "
            "not found). The file has changed since it was indexed; index it again."
        )
    return [found[t] for t in times_s]


def _sequential(
    video: OpenVideo,
    wanted_s: Sequence[float],
    config: VideoConfig,
    on_frame: Callable[[], None] | None,
) -> dict[float, NDArray[np.uint8]]:
    clock, scale = make_clock(video), sampled_scaler(video, config)
    found: dict[float, NDArray[np.uint8]] = {}
    position = 0
    for frame in video.frames():
        if position == len(wanted_s):
            break
        time_s = clock.next(frame.time)
        if on_frame is not None:
            on_frame()
        while position < len(wanted_s) and wanted_s[position] < time_s - _SLACK_S:
            position += 1
        while position < len(wanted_s) and abs(wanted_s[position] - time_s) <= _SLACK_S:
            found[wanted_s[position]] = scale(frame).copy()
            position += 1
    return found
