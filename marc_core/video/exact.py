"""Exact frames at known source times, with the pixels that the sampled stream gave.

    times -> decord, if it decodes this file's stream too
          -> PyAV: to two keyframes before a run of near times, decode forward, match by time
          -> any doubt (a time not met, a rejected packet, a clock that was repaired, no index):
             PyAV from the beginning, or as the part was decoded in which they lie

Two keyframes back, because pictures shown just after a keyframe may refer to the ones before it.
Where the clock was repaired anywhere in the file, a stored time may be the raw stamp of another
frame. What decoding said of the file tells; without it, the stamps of all packets are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from marc_core.errors import UnreadableVideoError
from marc_core.filenames import shown
from marc_core.video.decode import Decoding, HeldFrame, make_clock, timed_frames
from marc_core.video.decord_backend import DecordDecoding
from marc_core.video.pyav import OpenVideo, open_video
from marc_core.video.stamps import stamps_are_times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig
    from marc_core.video.parts import Part

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
    repaired: bool | None = None,
    on_frame: Callable[[], None] | None = None,
    part: Part | None = None,
) -> list[NDArray[np.uint8]]:
    """Return one (H, W, 3) uint8 RGB frame for each of `times_s`, in their order.

    Times are source times as decoding gave them (FrameChunk.times_s); the frames equal the
    sampled frames of the same times. repaired: whether the clock was repaired when the file was
    decoded (`clock.repaired_by` of its warnings); None: look. part: of a long recording, if all
    times lie in it. Raises what `decode` raises, and UnreadableVideoError for a time at which the
    file has no frame.
    """
    asked: dict[str, Any] = {"stream": stream, "repaired": repaired, "part": part}
    found = dict(find_frames(path, times_s, config, on_frame=on_frame, **asked))
    return [found[float(t)] for t in times_s]


def find_frames(
    path: str | Path,
    times_s: Sequence[float],
    config: VideoConfig,
    *,
    stream: int = 0,
    repaired: bool | None = None,
    on_frame: Callable[[], None] | None = None,
    part: Part | None = None,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Like `read_frames`, but yield (time, frame) for each distinct time as it is found."""
    wanted = sorted({float(t) for t in times_s})
    found: set[float] = set()
    for time_s, frame_HWC in _find(path, wanted, found, config, stream, repaired, on_frame, part):
        found.add(time_s)
        yield time_s, frame_HWC
    _check_found(path, wanted, found)


def _check_found(path: str | Path, wanted: Sequence[float], found: set[float]) -> None:
    missing = [t for t in wanted if t not in found]
    if missing:
        raise UnreadableVideoError(
            f"'{shown(path)}' has no frame at {missing[0]:.6f} s ({len(missing)} of {len(wanted)} "
            "times not found). The file has changed since it was indexed; index it again."
        )


def _find(
    path: str | Path,
    wanted_s: Sequence[float],
    found: set[float],
    config: VideoConfig,
    stream: int,
    repaired: bool | None,
    on_frame: Callable[[], None] | None,
    part: Part | None,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield what is found of `wanted_s`; the caller adds it to `found`, which ends the search."""
    if config.backend == "decord" and not repaired:
        decoding = DecordDecoding(path, config, stream=stream, on_frame=on_frame)
        frames = None if decoding.refusal else decoding.frames_at(wanted_s, _SLACK_S)
        if frames is not None:
            yield from frames.items()
            return
    with open_video(path, config, stream=stream) as video:
        seekable = not repaired and may_seek(video, wanted_s)
        if seekable and repaired is None:
            seekable = stamps_are_times(path, stream=stream, on_packet=on_frame)
        if seekable:
            yield from _by_seeking(video, wanted_s, config, on_frame)
    left_s = [t for t in wanted_s if t not in found]
    if left_s and part is not None:
        with Decoding(path, config, stream=stream, on_frame=on_frame, part=part) as own:
            yield from _match(own.timed(), left_s)
        left_s = [t for t in wanted_s if t not in found]
    if left_s:
        with open_video(path, config, stream=stream) as video:
            timed = timed_frames(
                video, make_clock(video), config, video.frames(), on_frame=on_frame
            )
            yield from _match(timed, left_s)


class Following:
    """Reads frames of one file on and on: a pass from its beginning that each call goes on with.

    For files that cannot be sought, whose wanted times are found out part after part.
    """

    def __init__(self) -> None:
        self._of: tuple[str, int] | None = None
        self._stack = ExitStack()
        self._timed: Iterator[tuple[float, HeldFrame]] = iter(())
        self._reached_s = math.inf
        self._on_frame: Callable[[], None] = lambda: None

    def find(
        self,
        path: str,
        times_s: Sequence[float],
        config: VideoConfig,
        *,
        stream: int,
        on_frame: Callable[[], None],
    ) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (time, frame) as `find_frames` does; it begins anew where a time lies before those
        of the call before, or the file is another."""
        wanted, found = sorted({float(t) for t in times_s}), set[float]()
        self._on_frame = on_frame
        if self._of != (path, stream) or wanted[0] <= self._reached_s:
            self._begin(path, config, stream)
        for time_s, frame_HWC in _match(self._timed, wanted):
            self._reached_s = time_s
            found.add(time_s)
            yield time_s, frame_HWC
        _check_found(path, wanted, found)

    def _alive(self) -> None:
        self._on_frame()  # of the call that the pass goes on for

    def _begin(self, path: str, config: VideoConfig, stream: int) -> None:
        self._of = None
        self._stack.close()
        video = self._stack.enter_context(open_video(path, config, stream=stream))
        self._timed = timed_frames(
            video, make_clock(video), config, video.frames(), on_frame=self._alive
        )
        self._of, self._reached_s = (path, stream), -math.inf


def may_seek(video: OpenVideo, wanted_s: Sequence[float]) -> bool:
    """Return whether seeking leads to these times: an index, and none past the promised end.

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
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the frames found by seeking; ends early when anything is in doubt."""
    errors = video.num_errors
    for run in _runs(wanted_s):
        try:
            _seek_before(video, run[0])
        except av.FFmpegError:
            return
        clock = make_clock(video)
        timed = timed_frames(video, clock, config, video.frames_from_here(), on_frame=on_frame)
        for found in _match(timed, run):
            if clock.repaired or video.num_errors > errors:
                return
            yield found
        if clock.repaired or video.num_errors > errors:
            return


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
    timed: Iterator[tuple[float, HeldFrame]], wanted_s: Sequence[float]
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield (wanted time, frame) for wanted times (increasing) met by `timed` (increasing)."""
    position = 0
    while position < len(wanted_s) and (pair := next(timed, None)) is not None:
        time_s, frame = pair
        while position < len(wanted_s) and wanted_s[position] < time_s - _SLACK_S:
            position += 1
        while position < len(wanted_s) and abs(wanted_s[position] - time_s) <= _SLACK_S:
            yield wanted_s[position], frame.sampled().copy()
            position += 1
