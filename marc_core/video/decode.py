"""One pass over a video gives both streams: shot detector frames and sampled frames.

    file -> OpenVideo.frames -> Clock -> still.with_small: all at 48 x 27 (AREA) --+-> FrameChunk,
                                      -> Sampler: 1 fps, upright RGB --------------+   ..., then
                                                                                 DecodeSummary

The clock decides a frame's time a frame later, or up to 64 where stamps are doubtful. Frames wait
for it (HeldFrame): the first of them as the decoder gave them, the others small. So do up to three
for the frame that says whether the picture stands still (still.py).

In-process; a decoder that hangs or crashes takes the process along. Pipelines use
`marc_core.video.IsolatedDecoder`, which runs this code in a child.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import Interpolation

from marc_core.errors import VideoLimitError
from marc_core.filenames import shown
from marc_core.types import DecodeSummary, FrameChunk, VideoInfo
from marc_core.video import edits
from marc_core.video.clock import GAP_STEPS, HELD_S, Clock
from marc_core.video.parts import SLACK_S, frames_from
from marc_core.video.pyav import FrameScaler, OpenVideo, further_streams, open_video
from marc_core.video.sampling import SHOT_HEIGHT, SHOT_WIDTH, Sampler, output_size
from marc_core.video.still import distance_of_anchors, with_small
from marc_core.video.wrap import Unwrap

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig
    from marc_core.video.parts import Part


def probe(path: str | Path, config: VideoConfig, *, stream: int = 0) -> VideoInfo:
    """Return what the container of `path` promises; decodes one frame, for size and rotation.

    Raises UnreadableVideoError, EmptyVideoError, VideoLimitError.
    """
    with open_video(path, config, stream=stream) as video:
        return video.info


_HELD_MOST, _HELD_BYTES = 16, 64 * 1024**2
"""Frames that wait for their time at the decoder's own size (our choice: enough for the clock's
usual look-ahead up to 1080p); further ones are shrunk, which costs a scaling each."""


class Decoding:
    """A running decode by PyAV, of a whole stream or of one part and what lies around it.

    Iterate once; `info` is there at once, `summary` at the end.
    """

    def __init__(
        self,
        path: str | Path,
        config: VideoConfig,
        *,
        stream: int = 0,
        on_frame: Callable[[], None] | None = None,
        reason: str = "default",
        part: Part | None = None,
    ) -> None:
        self._stream = stream
        self._path, self._part = path, part
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
        video, config, clock = self._video, self._config, self._clock
        sampler = self._sampler()
        chunk = _ChunkBuilder(config.chunk_frames)
        num_frames, start_s, end_s = 0, 0.0, 0.0
        for time_s, frame, shot_HWC in self._with_small():
            start_s = start_s if num_frames else time_s
            end_s = time_s + last_shown_s(frame.duration_s, clock)
            if self._part is None:
                check_duration(video.path, time_s - start_s - clock.past_gaps_s, config)
            sampled = frame.sampled() if sampler.take(time_s) else None
            chunk.add(time_s, shot_HWC, sampled)
            num_frames += 1
            if chunk.full:
                yield chunk.build(sampler.interval_s, clock.gaps, self._video.num_errors)
        if not chunk.empty:
            yield chunk.build(sampler.interval_s, clock.gaps, self._video.num_errors)
        self._summary = DecodeSummary(
            info=self.info,
            num_frames=num_frames,
            num_errors=self._video.num_errors,
            start_s=start_s,
            end_s=end_s,
            backend="pyav",
            backend_reason=self._reason,
            sample_fps=1.0 / sampler.interval_s,
            gaps=tuple(gap for gap in clock.gaps if gap[1] > start_s),
            warnings=(*clock.warnings(), *self._warnings()),
        )

    def _sampler(self) -> Sampler:
        """Return the sampler; a part is short, so its samples are never thinned."""
        fps, part = self._config.sample_fps, self._part
        if part is None:
            return Sampler(sample_fps=fps, max_frames=self._config.max_sampled_frames)
        start_s = None if part.begin_s is None else part.video_start_s
        return Sampler(sample_fps=fps, max_frames=None, start_s=start_s)

    def _with_small(self) -> Iterator[tuple[float, HeldFrame, NDArray[np.uint8]]]:
        """Yield (time_s, frame, small frame) of all that is to be decoded."""
        video, part = self._video, self._part
        every = distance_of_anchors(_frame_bytes(video))
        stop_s = None if part is None else part.stop_s
        # The stop comes last: a part's last frames, too, are what they are in one pass.
        for timed in with_small(self.timed(), every):
            if stop_s is not None and timed[0] > stop_s - SLACK_S:
                return
            yield timed

    def timed(self) -> Iterator[tuple[float, HeldFrame]]:
        """Yield (time_s, frame) from where the part begins to be decoded to the file's end."""
        video = self._video
        begin_s = None if self._part is None else self._part.begin_s
        frames = video.frames()
        if begin_s is not None:
            frames = frames_from(video, begin_s, self._reopened, self._on_frame)
        shots, on_frame = shot_scaler(video), self._on_frame
        for time_s, frame in timed_frames(
            video, self._clock, self._config, frames, shots=shots, on_frame=on_frame
        ):
            if begin_s is None or time_s >= begin_s - SLACK_S:
                yield time_s, frame

    def _reopened(self) -> OpenVideo:
        """Return the file opened again, for frames that no seek leads to."""
        again = open_video(self._path, self._config, stream=self._stream)
        self._video = self._stack.enter_context(again)
        return self._video

    def _warnings(self) -> tuple[str, ...]:
        more = further_streams(self.info.num_streams, self._stream, self._config)
        return (*edits.warnings(self._video.stream), *([more.strip()] if more else []))


class HeldFrame:
    """A decoded frame that waits for its time. Holds the decoder's memory until `shrink`.

    duration_s: how long the file says that it is shown.
    """

    __slots__ = ("_frame", "_sampled", "_scale", "_shots", "_small", "duration_s")

    def __init__(
        self,
        frame: VideoFrame,
        scale: FrameScaler,
        shots: FrameScaler | None,
        duration_s: float | None,
    ) -> None:
        """shots: the scaler of `small`, where it will be asked for."""
        self._frame: VideoFrame | None = frame
        self._sampled: NDArray[np.uint8] | None = None
        self._small: NDArray[np.uint8] | None = None
        self._scale, self._shots = scale, shots
        self.duration_s = duration_s

    def shrink(self) -> None:
        """Keep the sizes only that can be asked for."""
        self._small = None if self._shots is None else self.small()
        self._sampled, self._frame = self.sampled().copy(), None

    def small(self) -> NDArray[np.uint8]:
        """Return the frame as the shot detector gets it: (27, 48, 3) uint8 RGB."""
        if self._small is not None:
            return self._small
        assert self._frame is not None
        assert self._shots is not None
        return self._shots(self._frame)

    def sampled(self) -> NDArray[np.uint8]:
        """Return the frame as sampled frames are: (H, W, 3) uint8 RGB."""
        if self._sampled is not None:
            return self._sampled
        assert self._frame is not None
        return self._scale(self._frame)


class Shown:
    """How long the file says that a frame is shown. PyAV makes fractions of it, which are slow, and
    most frames of a file have one duration: each is divided once."""

    def __init__(self) -> None:
        self._known: dict[int, float | None] = {}

    def __call__(self, frame: VideoFrame) -> float | None:
        """Return seconds, None where it does not say."""
        ticks = frame.duration
        if ticks not in self._known:
            if len(self._known) >= _DURATIONS_MOST:
                self._known.clear()
            base = frame.time_base
            self._known[ticks] = float(ticks * base) if ticks and base else None
        return self._known[ticks]


_DURATIONS_MOST = 1000
"""Durations that are remembered: some recorders give each frame another one."""


def _frame_bytes(video: OpenVideo) -> int:
    """Return about what a frame holds: 3 bytes a pixel, as those with 8 bits and all colours do."""
    return 3 * video.first.width * video.first.height


def timed_frames(
    video: OpenVideo,
    clock: Clock,
    config: VideoConfig,
    frames: Iterator[VideoFrame],
    *,
    shots: FrameScaler | None = None,
    on_frame: Callable[[], None] | None = None,
) -> Iterator[tuple[float, HeldFrame]]:
    """Yield (time_s, frame) of these frames of the video.

    `on_frame` is called for each frame as it is decoded.
    """
    scale = sampled_scaler(video, config)
    most_whole = min(max(_HELD_BYTES // _frame_bytes(video), 1), _HELD_MOST)
    held: deque[HeldFrame] = deque()
    shown_s = Shown()
    unwrap = Unwrap(video.wrap_s)
    for frame in frames:
        if on_frame is not None:
            on_frame()
        held.append(HeldFrame(frame, scale, shots, shown_s(frame)))
        if len(held) > most_whole:
            held[-1].shrink()
        for time_s in clock.push(unwrap(frame.time), held[-1].duration_s or 0.0):
            yield time_s, held.popleft()
    for time_s in clock.finish():
        yield time_s, held.popleft()


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

    def build(
        self, sample_interval_s: float, gaps: Sequence[tuple[float, float]], num_errors: int
    ) -> FrameChunk:
        """Return the chunk and begin another; gaps: all by now."""
        first_s, last_s = self._times[0], self._times[-1]
        chunk = FrameChunk(
            times_s=np.array(self._times, np.float64),
            shot_frames=self._shots[: len(self._times)],
            sampled_index=np.array(self._index, np.int64),
            sampled_frames=stack_frames(self._sampled),
            sample_interval_s=sample_interval_s,
            gaps=tuple(gap for gap in gaps if first_s <= gap[1] <= last_s),
            num_errors=num_errors,
        )
        self._reset()
        return chunk


def stack_frames(frames: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return (S, H, W, 3), or (0, 0, 0, 3) when there are none."""
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)


def make_clock(video: OpenVideo) -> Clock:
    """Return the clock of a video; the same for every way of reading it."""
    start_s = Unwrap(video.wrap_s)(video.start_s)
    assert start_s is not None
    return Clock(step_s=video.step_s, start_s=start_s)


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


def last_shown_s(duration_s: float | None, clock: Clock) -> float:
    """Return how long the last frame is shown: as the file says, unless that would be a gap."""
    if duration_s is None or duration_s <= 0:
        return clock.step_s
    if duration_s <= HELD_S:  # the step is a median, too slow to be asked for with every frame
        return duration_s
    step_s = clock.step_s
    return duration_s if duration_s <= GAP_STEPS * step_s else step_s


def check_duration(path: str, shown_s: float, config: VideoConfig) -> None:
    """Raise VideoLimitError when more is shown than `max_duration_s`; gaps do not count."""
    if shown_s > config.max_duration_s:
        raise VideoLimitError(
            f"A video must last at most {config.max_duration_s:g} s. '{shown(path)}' goes on "
            "longer than that. Raise video.max_duration_s to take it."
        )
