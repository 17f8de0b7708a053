"""One picture for each stretch of a video, as cheaply as the file allows.

    stretches --a keyframe inside it, decoded alone---------> (number, time_s, picture)
              --none, or any doubt: exact.find_frames,------>
                the frame at the stretch's own time

For work that wants some frame of an event at a size of its own, such as reading what is written:
a keyframe costs one packet, the exact frame up to two groups of pictures before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av

from marc_core.video.decode import sampled_scaler
from marc_core.video.exact import find_frames, may_seek
from marc_core.video.pyav import FrameScaler, OpenVideo, open_video
from marc_core.video.stamps import stamps_are_times

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig


class Stretch(NamedTuple):
    """Seconds [start_s, end_s) of a video. time_s: of a frame in it, as decoding gave it."""

    start_s: float
    end_s: float
    time_s: float


def find_pictures(
    path: str | Path,
    stretches: Sequence[Stretch],
    config: VideoConfig,
    *,
    stream: int = 0,
    repaired: bool | None = None,
    on_frame: Callable[[], None] | None = None,
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield (number of the stretch, time_s, (H, W, 3) uint8 RGB), one picture for each stretch.

    Pictures have at most `config.frame_max_pixels`. First come the stretches that hold a keyframe,
    the one before `time_s` or the next after it, then the others, each in order of time.
    repaired: as of `read_frames`, which also says what is raised.
    """
    found: set[int] = set()
    for number, time_s, frame_HWC in _keyframes(path, stretches, config, stream, repaired):
        if on_frame is not None:
            on_frame()
        found.add(number)
        yield number, time_s, frame_HWC
    waiting: dict[float, list[int]] = {}
    for number, stretch in enumerate(stretches):
        if number not in found:
            waiting.setdefault(float(stretch.time_s), []).append(number)
    exact = find_frames(
        path, list(waiting), config, stream=stream, repaired=repaired, on_frame=on_frame
    )
    for time_s, frame_HWC in exact if waiting else ():
        for number in waiting[time_s]:
            yield number, time_s, frame_HWC


def _keyframes(
    path: str | Path,
    stretches: Sequence[Stretch],
    config: VideoConfig,
    stream: int,
    repaired: bool | None,
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield the stretches' keyframes where stamps are times; ends early when in doubt."""
    with open_video(path, config, stream=stream) as video:
        if repaired or not may_seek(video, [s.time_s for s in stretches]):
            return
        if repaired is None and not stamps_are_times(path, stream=stream):
            return
        scale = sampled_scaler(video, config)
        for number, stretch in enumerate(stretches):
            try:
                found = _keyframe_of(video, stretch, scale)
            except av.FFmpegError:
                return
            if found is not None:
                yield number, *found


def _keyframe_of(
    video: OpenVideo, stretch: Stretch, scale: FrameScaler
) -> tuple[float, NDArray[np.uint8]] | None:
    """Return (time_s, picture) of the keyframe before `time_s`, or else the next, if inside."""
    stream = video.stream
    assert stream.time_base is not None
    for backward in (True, False):
        target = int(stretch.time_s / stream.time_base)
        try:
            video.container.seek(target, stream=stream, backward=backward)
        except av.error.PermissionError:
            continue  # no keyframe there is
        packet = next(video.container.demux(stream), None)
        if packet is None or packet.pts is None or not packet.is_keyframe:
            continue
        time_s = float(packet.pts * stream.time_base)
        if not stretch.start_s <= time_s < stretch.end_s:
            continue
        frame = _alone(video, packet)
        if frame is not None:
            return time_s, scale(frame).copy()
    return None


def _alone(video: OpenVideo, packet: Packet[VideoStream]) -> VideoFrame | None:
    """Return the frame of one packet, if it is whole without those before it.

    The decoder is drained, so that it holds nothing back; the next seek makes it ready again.
    """
    context = video.stream.codec_context
    frames = [*context.decode(packet), *context.decode(None)]
    sound = [f for f in frames if f.pts == packet.pts and f.key_frame and not f.is_corrupt]
    return sound[0] if sound else None
