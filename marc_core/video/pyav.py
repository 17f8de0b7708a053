"""The reference decoder: one sequential pass of PyAV over a file, packet by packet.

    open_video -> OpenVideo (container, stream, first frame, info)
    OpenVideo.frames() -> every frame that decodes, in presentation order

A packet that the decoder rejects is counted and skipped. Files are opened by the `file` protocol
and by a closed list of formats, so that a playlist named movie.mp4 cannot make the decoder fetch
other files or addresses.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from marc_core.errors import (
    EmptyVideoError,
    UnreadableVideoError,
    VideoError,
    VideoLimitError,
)
from marc_core.filenames import shown
from marc_core.recorded.sources import tags_of
from marc_core.types import SYNTHETIC_COMMENT, VideoInfo
from marc_core.video import edits
from marc_core.video.encryption import check_not_encrypted, check_not_scrambled, check_packet
from marc_core.video.orientation import Orientation, orientation_of
from marc_core.video.wrap import wrap_after_s

if TYPE_CHECKING:
    from av import Packet
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig

FORMATS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpeg", "mpegts",
    "mpegvideo", "flv", "live_flv", "asf", "ogg", "gif", "h264", "hevc", "m4v", "ivf", "mxf",
    "nut", "dv", "rm", "wtv", "obu", "yuv4mpegpipe", "apng", "h261", "h263", "gxf", "swf", "roq",
    "vc1", "vvc", "cavsvideo", "dnxhd", "dirac", "mjpeg", "dhav", "nsv", "nuv", "pva", "ty",
)  # fmt: skip
"""Demuxers that may open a file: those that hold their frames themselves."""

DEFAULT_FPS = 25.0
"""Assumed only where neither timestamps nor a frame rate exist (our choice)."""

_MAX_DEMUX_ERRORS = 100
"""Read errors in a row, without a packet between them, after which a file has ended."""


class OpenVideo:
    """An open file with its first frame decoded. Use `open_video`, which closes it."""

    def __init__(
        self, path: str, container: InputContainer, config: VideoConfig, *, stream: int = 0
    ) -> None:
        self.path = path
        self.num_errors = 0
        self._container = container
        self._config = config
        self.stream = video_stream(path, container, stream)
        self.stream.thread_count = 1
        check_not_encrypted(path, container, self.stream)
        _check_size(path, self.stream.width, self.stream.height, config)
        self.step_s = 1.0 / (_fps(container, self.stream) or DEFAULT_FPS)
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            check_not_scrambled(path, container)
            raise EmptyVideoError(
                f"Not one frame of '{shown(path)}' could be decoded ({self.num_errors} packets "
                "were rejected). The file is damaged or ends before its first picture."
                + further_streams(len(_pictured(container)), stream, config)
            )
        self.first = first
        self.orientation = orientation_of(first)
        self.info = _info(container, self.stream, first, self.orientation)
        tick = self.stream.time_base
        self.wrap_s = wrap_after_s(container.format.name, None if tick is None else float(tick))

    @property
    def container(self) -> InputContainer:
        """The open container; its position belongs to whoever reads `frames`."""
        return self._container

    @property
    def pixel_shape(self) -> Fraction | None:
        """Width / height of one pixel; None where the file does not say."""
        shape = self.stream.sample_aspect_ratio
        return shape if shape else None

    @property
    def start_s(self) -> float:
        """Start that the stream promises, as it is stamped, for frames without any timestamp."""
        base = self.stream.time_base
        start = self.stream.start_time
        return float(start * base) if start is not None and base is not None else 0.0

    def frames(self) -> Iterator[VideoFrame]:
        """Yield every frame of the file once, first frame included."""
        yield self.first
        yield from self._decoded

    def frames_from_here(self) -> Iterator[VideoFrame]:
        """Yield frames from the container's present position (after a seek)."""
        return self._decode()

    def frames_from_keyframe(self) -> Iterator[VideoFrame]:
        """Like `frames_from_here`, but packets before the first keyframe are passed over."""
        return self._decode(from_keyframe=True)

    def _decode(self, *, from_keyframe: bool = False) -> Iterator[VideoFrame]:
        waits = from_keyframe
        for packet in demuxed(self._container, self.stream, self._count_error):
            waits = waits and not packet.is_keyframe
            if not waits:
                yield from self._decode_packet(packet)

    def _count_error(self, error: av.FFmpegError) -> None:
        self._raise_if_out_of_memory(error)
        self.num_errors += 1

    def _raise_if_out_of_memory(self, error: av.FFmpegError) -> None:
        """Raise VideoLimitError when lack of memory, not the packet, made the decoder fail.

        Decoders report a failed allocation as damaged data, so what is left is looked at: less
        than two frames of the deepest pixel format (6 bytes a pixel).
        """
        frame_bytes = 6 * self.stream.width * self.stream.height
        if isinstance(error, MemoryError) or _memory_left_bytes() < 2 * frame_bytes:
            raise _no_memory(self.path) from error

    def _decode_packet(self, packet: Any) -> Iterator[VideoFrame]:
        check_packet(self.path, packet)
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            self._count_error(error)
            return
        for frame in frames:
            _check_size(self.path, frame.width, frame.height, self._config)
            yield frame


def demuxed(
    container: InputContainer, stream: VideoStream, on_error: Callable[[av.FFmpegError], None]
) -> Iterator[Packet[Any]]:
    """Yield the packets of a stream; read errors are told to `on_error` and passed over."""
    failures = 0
    while failures < _MAX_DEMUX_ERRORS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            on_error(error)
            failures += 1


@contextmanager
def open_video(path: str | Path, config: VideoConfig, *, stream: int = 0) -> Iterator[OpenVideo]:
    """Open `path` and decode the first frame of its video stream number `stream`.

    Raises UnreadableVideoError (no file, no container, no video stream), EmptyVideoError (no
    frame decodes) and VideoLimitError (too large for `config`).
    """
    name = str(path)
    with open_container(name) as container:
        try:
            yield OpenVideo(name, container, config, stream=stream)
        except VideoError as error:
            error.num_streams = len(_pictured(container)) or None
            raise


def open_container(name: str) -> InputContainer:
    if not os.path.isfile(name):
        raise UnreadableVideoError(f"'{shown(name)}' is not a file.")
    if os.path.getsize(name) == 0:
        raise UnreadableVideoError(f"'{shown(name)}' is empty (0 bytes).")
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(FORMATS),
        "correct_ts_overflow": "0",  # marc_core.video.wrap does it
    }
    try:
        container = _open(name, options)
        if edits.hide_all(_pictured(container)):
            container.close()
            container = _open(name, options | edits.WITHOUT)
        return container
    except MemoryError as error:
        raise _no_memory(name) from error
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableVideoError(
            f"'{shown(name)}' cannot be opened as a video: {reason}. It is damaged, cut off before "
            "its index, or not a video file."
        ) from error


def _open(name: str, options: dict[str, str]) -> InputContainer:
    return av.open(f"file:{os.path.abspath(name)}", mode="r", options=options)


def video_stream(path: str, container: InputContainer, number: int = 0) -> VideoStream:
    """Return the video stream `number`: 0 is the one that players show, then in file order."""
    streams = _pictured(container)
    if not container.streams.video:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise UnreadableVideoError(f"'{shown(path)}' has no video stream (streams: {kinds}).")
    if not streams:
        raise UnreadableVideoError(f"'{shown(path)}' has no video stream, only a cover picture.")
    if number >= len(streams):
        raise UnreadableVideoError(
            f"'{shown(path)}' has {len(streams)} video streams, no number {number} (from 0). The "
            "file has changed since it was indexed; index it again."
        )
    if streams[number].codec_context is None:
        raise UnreadableVideoError(
            f"'{shown(path)}': this build has no decoder for its video codec."
        )
    return streams[number]


def _pictured(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are no cover pictures, the one that players show first."""
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    best = container.streams.best("video")
    return sorted(streams, key=lambda stream: stream != best)


def _info(
    container: InputContainer, stream: VideoStream, first: VideoFrame, orientation: Orientation
) -> VideoInfo:
    width, height = first.width, first.height
    if orientation.swaps_sides:
        width, height = height, width
    codec = stream.codec_context.codec
    return VideoInfo(
        codec=getattr(codec, "canonical_name", None) or codec.name,
        container=container.format.name,
        width=width,
        height=height,
        rotation_deg=orientation.clockwise_deg,
        mirrored=orientation.mirrored,
        fps=_fps(container, stream),
        duration_s=promised_duration_s(container, stream),
        num_frames=stream.frames or None,
        num_streams=len(_pictured(container)),
        has_audio=bool(container.streams.audio),
        clock_tags=tags_of(stream.metadata, container.metadata),
        synthetic=container.metadata.get("comment") == SYNTHETIC_COMMENT,
    )


def _fps(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the frame rate that the stamps give, or the stream itself where a file has none.

    Demuxers of raw streams stamp frames at 25 fps, whatever these are.
    """
    rates = [stream.average_rate, stream.guessed_rate]
    raw = container.format.flags & cast("int", av.format.Flags.no_timestamps.value)
    for rate in reversed(rates) if raw else rates:
        if rate:
            return float(rate)
    return None


def promised_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return how long the stream is, as the container says; None where it does not."""
    if stream.duration and stream.duration > 0 and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return container.duration / av.time_base
    return None


def _check_size(path: str, width: int, height: int, config: VideoConfig) -> None:
    if width * height > config.max_pixels:
        raise VideoLimitError(
            f"A frame must have at most {config.max_pixels} pixels. '{shown(path)}' has {width} x "
            f"{height}. Raise video.max_pixels to take it."
        )


def _no_memory(path: str) -> VideoLimitError:
    return VideoLimitError(
        f"Decoding '{shown(path)}' needs more memory than allowed. Raise video.child_memory_bytes."
    )


def _memory_left_bytes() -> float:
    """Return how much address space this process may still take; infinite without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return limit - pages * resource.getpagesize()


def further_streams(num_streams: int, stream: int, config: VideoConfig) -> str:
    """Return a sentence about the streams that are left out, or nothing where none are."""
    if config.streams == "all" or num_streams == 1 or stream:
        return ""
    more = f"{num_streams - 1} more video stream{'s' if num_streams > 2 else ''}"
    return f" It has {more}: index with video.streams=all to take each."


class FrameScaler:
    """Turns decoded frames into RGB arrays of one size, turned and mirrored as they are shown."""

    def __init__(
        self, *, width: int, height: int, orientation: Orientation, method: Interpolation
    ) -> None:
        self._width, self._height = width, height
        self._orientation, self._method = orientation, method
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB, a view of memory that lives as long as the array."""
        rgb = self._reformatter.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="rgb24",
            interpolation=self._method,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        image = rows[: self._height, : self._width * 3].reshape(self._height, self._width, 3)
        return self._orientation.apply(image)
