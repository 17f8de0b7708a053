"""Exact frames at known source times, with the pixels that the sampled stream gave.

    times -> decord, if it decodes this file's stream too
          -> PyAV: to two keyframes before a run of near times, decode forward, match by time
          -> any doubt (a time not met, a rejected packet, no index): PyAV from the beginning

Two keyframes back, because pictures shown just after a keyframe may refer to the ones before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from marc_core.errors import UnreadableVideoError
from marc_core.filenames import shown
from marc_core.video.decode import make_clock, sampled_scaler
from marc_core.video.decord_backend import DecordDecoding
from marc_core.video.pyav import OpenVideo, open_video

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig

    Frames = dict[float, NDArray[np.uint8]]

_SLACK_S = 1e-4
"""Rounding allowed when a stored time is compared with a frame's (stored as float64)."""

_NEAR_S = 15.0
"""Times closer than this are reached by decoding on, not by a seek (our choice: a seek goes two
keyframes back, which are often 2 to 10 s apart)."""

_SEEKABLE = frozenset({"mp4", "mov", "matroska", "webm"})
"""Containers with an index of keyframes whose times can be trusted."""


def read_frames(
    path: str | Path,
    times_s: Sequence[float],
    config: VideoConfig,
    *,
    stream: int = 0,
    on_frame: Callable[[], None] | None = None,
) -> list[NDArray[np.uint8]]:
    """Return one (H, W, 3) uint8 RGB frame for each of `times_s`, in their order.

    Times are source timestamps as decoding gave them (FrameChunk.times_s); the frames equal the
    sampled frames of the same times. Raises what `decode` raises, and UnreadableVideoError for
    a time at which the file has no frame.
    """
    wanted = sorted({float(t) for t in times_s})
    found = _find(path, wanted, config, stream, on_frame)
    missing = [t for t in wanted if t not in found]
    if missing:
        raise UnreadableVideoError(
            f"'{shown(path)}' has no frame at {missing[0]:.6f} s ({len(missing)} of {len(wanted)} "
            "times not found). The file has changed since it was indexed; index it again."
        )
    return [found[float(t)] for t in times_s]


def _find(
    path: str | Path,
    wanted_s: Sequence[float],
    config: VideoConfig,
    stream: int,
    on_frame: Callable[[], None] | None,
) -> Frames:
    if config.backend == "decord":
        decoding = DecordDecoding(path, config, stream=stream, on_frame=on_frame)
        frames = None if decoding.refusal else decoding.frames_at(wanted_s, _SLACK_S)
        if frames is not None:
            return frames
    with open_video(path, config, stream=stream) as video:
        if _may_seek(video, wanted_s):
            found = _by_seeking(video, wanted_s, config, on_frame)
            if len(found) == len(wanted_s):
                return found
    with open_video(path, config, stream=stream) as video:
        clock = make_clock(video)
        timed = ((clock.next(frame.time), frame) for frame in video.frames())
        return _match(timed, wanted_s, video, config, on_frame)


def _may_seek(video: OpenVideo, wanted_s: Sequence[float]) -> bool:
    """Return whether times are plain source times: an index, and none past the promised end.

    Past it lie joined files, whose own times begin again and were continued by the Clock.
    """
    duration_s = video.info.duration_s
    if not wanted_s or duration_s is None or video.first.time is None:
        return False
    if not _SEEKABLE & set(video.info.container.split(",")):
        return False
    return wanted_s[-1] < video.first.time + duration_s


def _by_seeking(
    video: OpenVideo,
    wanted_s: Sequence[float],
    config: VideoConfig,
    on_frame: Callable[[], None] | None,
) -> Frames:
    """Return the frames found by seeking; fewer than wanted when anything is in doubt."""
    found: Frames = {}
    errors = video.num_errors
    for run in _runs(wanted_s):
        try:
            _seek_before(video, run[0])
        except av.FFmpegError:
            return {}
        timed = ((frame.time, frame) for frame in video.frames_from_here())
        found |= _match(timed, run, video, config, on_frame)
        if video.num_errors > errors:
            return {}
    return found


def _runs(wanted_s: Sequence[float]) -> Iterator[list[float]]:
    run: list[float] = []
    for time_s in wanted_s:
        if run and time_s - run[-1] > _NEAR_S:
            yield run
            run = []
        run.append(time_s)
    if run:
        yield run


def _seek_before(video: OpenVideo, time_s: float) -> None:
    """Move to the keyframe before the one before `time_s`."""
    stream = video.stream
    assert stream.time_base is not None
    target = int(time_s / stream.time_base)
    for _ in range(2):
        video.container.seek(target, stream=stream, backward=True)
        packet = next(video.container.demux(stream), None)
        if packet is None or packet.pts is None:
            break
        target = min(packet.pts, packet.dts if packet.dts is not None else packet.pts) - 1
    else:
        target += 1
    video.container.seek(target, stream=stream, backward=True)


def _match(
    timed: Iterator[tuple[float | None, VideoFrame]],
    wanted_s: Sequence[float],
    video: OpenVideo,
    config: VideoConfig,
    on_frame: Callable[[], None] | None,
) -> Frames:
    """Return {wanted time: frame} for wanted times (increasing) met by `timed` (increasing)."""
    scale = sampled_scaler(video, config)
    found: Frames = {}
    position = 0
    while position < len(wanted_s) and (pair := next(timed, None)) is not None:
        time_s, frame = pair
        if on_frame is not None:
            on_frame()
        if time_s is None:
            continue
        while position < len(wanted_s) and wanted_s[position] < time_s - _SLACK_S:
            position += 1
        while position < len(wanted_s) and abs(wanted_s[position] - time_s) <= _SLACK_S:
            found[wanted_s[position]] = scale(frame).copy()
            position += 1
    return found
