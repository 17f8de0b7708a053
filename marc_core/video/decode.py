"""One pass over a video gives both streams: shot detector frames and sampled frames.

    file -> OpenVideo.frames -> Clock -> every frame to 48 x 27 (AREA)  -+-> FrameChunk, ...
                                      -> Sampler -> 1 fps, upright RGB  -+   then DecodeSummary

In-process; a decoder that hangs or crashes takes the process along. Pipelines use
`marc_core.video.IsolatedDecoder`, which runs this code in a child.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import Interpolation

from marc_core.errors import VideoLimitError
from marc_core.filenames import shown
from marc_core.types import DecodeSummary, FrameChunk, VideoInfo
from marc_core.video.pyav import FrameScaler, OpenVideo, further_streams, open_video
from marc_core.video.sampling import SHOT_HEIGHT, SHOT_WIDTH, Clock, make_sampler, output_size

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig


def probe(path: str | Path, config: VideoConfig, *, stream: int = 0) -> VideoInfo:
    """Return what the container of `path` promises; decodes one frame, for size and rotation.

    Raises UnreadableVideoError, EmptyVideoError, VideoLimitError.
    """
    with open_video(path, config, stream=stream) as video:
        return video.info


class Decoding:
    """A running decode by PyAV. Iterate once; `info` is there at once, `summary` at the end."""

    def __init__(
        self,
        path: str | Path,
        config: VideoConfig,
        *,
        stream: int = 0,
        on_frame: Callable[[], None] | None = None,
        reason: str = "default",
    ) -> None:
        self._stream = stream
        self._config = config
        self._on_frame = on_frame
        self._reason = reason
        self._summary: DecodeSummary | None = None
        with ExitStack() as stack:
            self._video = stack.enter_context(open_video(path, config, stream=stream))
            self._stack = stack.pop_all()
        self.info = self._video.info
        self._clock = make_clock(self._video)

    def __enter__(self) -> Decoding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    @property
    def summary(self) -> DecodeSummary:
        """What is known after the last frame; asking earlier is a mistake of the caller."""
        assert self._summary is not None, "read every chunk before asking for the summary"
        return self._summary

    def __iter__(self) -> Iterator[FrameChunk]:
        video, config = self._video, self._config
        start_s = self._clock.next(video.first.time)
        sampler = make_sampler(
            sample_fps=config.sample_fps,
            max_frames=config.max_sampled_frames,
            start_s=start_s,
            duration_s=self.info.duration_s,
        )
        scale_shot, scale_sampled = shot_scaler(video), sampled_scaler(video, config)
        chunk = _ChunkBuilder(config.chunk_frames)
        num_frames, time_s, frame = 0, start_s, video.first
        for frame in video.frames():
            time_s = self._clock.next(frame.time) if num_frames else start_s
            self._check_time(time_s - start_s)
            sampled = scale_sampled(frame) if sampler.take(time_s) else None
            chunk.add(time_s, scale_shot(frame), sampled)
            num_frames += 1
            if self._on_frame is not None:
                self._on_frame()
            if chunk.full:
                yield chunk.build()
        if not chunk.empty:
            yield chunk.build()
        self._summary = DecodeSummary(
            info=self.info,
            num_frames=num_frames,
            num_errors=video.num_errors,
            start_s=start_s,
            end_s=time_s + _shown_s(frame, video.step_s),
            backend="pyav",
            backend_reason=self._reason,
            sample_fps=1.0 / sampler.interval_s,
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        more = further_streams(self.info.num_streams, self._stream, self._config)
        return (more.strip(),) if more else ()

    def _check_time(self, elapsed_s: float) -> None:
        if elapsed_s > self._config.max_duration_s:
            raise VideoLimitError(
                f"A video must last at most {self._config.max_duration_s:g} s. "
                f"'{shown(self._video.path)}' goes on longer than that. Raise "
                "video.max_duration_s to take it."
            )


class _ChunkBuilder:
    """Collects frames of one FrameChunk."""

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._reset()

    def _reset(self) -> None:
        self._times: list[float] = []
        self._shots = np.empty((self._num_frames, SHOT_HEIGHT, SHOT_WIDTH, 3), np.uint8)
        self._index: list[int] = []
        self._sampled: list[NDArray[np.uint8]] = []

    @property
    def full(self) -> bool:
        return len(self._times) == self._num_frames

    @property
    def empty(self) -> bool:
        return not self._times

    def add(
        self, time_s: float, shot_HWC: NDArray[np.uint8], sampled_HWC: NDArray[np.uint8] | None
    ) -> None:
        if sampled_HWC is not None:
            self._index.append(len(self._times))
            self._sampled.append(sampled_HWC.copy())
        self._shots[len(self._times)] = shot_HWC
        self._times.append(time_s)

    def build(self) -> FrameChunk:
        chunk = FrameChunk(
            times_s=np.array(self._times, np.float64),
            shot_frames=self._shots[: len(self._times)],
            sampled_index=np.array(self._index, np.int64),
            sampled_frames=stack_frames(self._sampled),
        )
        self._reset()
        return chunk


def stack_frames(frames: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return (S, H, W, 3), or (0, 0, 0, 3) when there are none."""
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)


def make_clock(video: OpenVideo) -> Clock:
    """Return the clock of a video; the same for every way of reading it."""
    return Clock(step_s=video.step_s, start_s=video.start_s)


def shot_scaler(video: OpenVideo) -> FrameScaler:
    """Return the scaler to (27, 48, 3), area averaged and upright."""
    width, height = SHOT_WIDTH, SHOT_HEIGHT
    if video.orientation.swaps_sides:
        width, height = height, width
    return FrameScaler(
        width=width, height=height, orientation=video.orientation, method=Interpolation.AREA
    )


def sampled_scaler(video: OpenVideo, config: VideoConfig) -> FrameScaler:
    """Return the scaler of sampled frames: the first frame's size rules the whole video.

    Area averaging (our choice): no aliasing, and half the cost of bicubic.
    """
    width, height = output_size(
        video.first.width, video.first.height, config.frame_max_pixels, video.pixel_shape
    )
    return FrameScaler(
        width=width, height=height, orientation=video.orientation, method=Interpolation.AREA
    )


def _shown_s(frame: VideoFrame, step_s: float) -> float:
    """Return how long the last frame is shown."""
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return step_s
