"""decord as a decoder, for files that `admission` clears.

    packets -> times;  reader at 64 x 27 -> shot frames   \
                       reader at sample size -> samples    -> temporary files -> FrameChunk, ...

decord's decoder runs ahead of its reader without limit, so a reader is emptied at full speed and
deleted before the first chunk is handed over; frames wait on disk. decord scales to one size per
reader, so the file is decoded twice: it is the slower backend, kept because people ask for it.
Where it fails after all, PyAV takes the whole file.
"""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np

from marc_core.errors import ConfigError
from marc_core.types import DecodeSummary, FrameChunk
from marc_core.video.admission import inspect
from marc_core.video.clock import Clock
from marc_core.video.decode import Decoding, check_duration, last_shown_s
from marc_core.video.pyav import open_video
from marc_core.video.sampling import (
    SHOT_HEIGHT,
    SHOT_WIDTH,
    Sampler,
    area_weights,
    output_size,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig

MIN_WIDTH = 64
"""Narrower output makes decord 0.6 misread its own rows (wrong shape, scrambled picture)."""

_BATCH_FRAMES = 64

_POSITION = re.compile(r"\[[\d:]+\] \S+:\d+: ")

_Tick = Callable[[], None] | None


class DecordDecoding:
    """A running decode by decord, with the interface of `Decoding`."""

    def __init__(
        self, path: str | Path, config: VideoConfig, *, stream: int = 0, on_frame: _Tick = None
    ) -> None:
        self._path, self._config, self._on_frame = str(path), config, on_frame
        with open_video(path, config, stream=stream) as video:
            self.info = video.info
            step_s = video.step_s
            self._size = output_size(
                video.first.width, video.first.height, config.frame_max_pixels, video.pixel_shape
            )
        found = inspect(path, self.info)
        self.refusal = found.refusal
        if self._size[0] < MIN_WIDTH:
            self.refusal = f"sampled frames are narrower than {MIN_WIDTH} pixels"
        self._times_s = found.times_s
        self._clock = Clock(step_s=step_s)
        times_s: list[float] = []
        for stamp_s, shown_s in zip(found.times_s, found.shown_s, strict=True):
            times_s += self._clock.push(stamp_s, shown_s)
        times_s += self._clock.finish()
        if self.refusal is None and tuple(times_s) != found.times_s:
            self.refusal = "timestamps are out of line"
        if self.refusal is None:
            all_shown_s = times_s[-1] - times_s[0] - self._clock.past_gaps_s
            check_duration(self._path, all_shown_s, config)
        last_s = found.shown_s[-1] if found.shown_s else 0.0
        self._last_shown_s = last_shown_s(last_s, self._clock)
        self._summary: DecodeSummary | None = None

    def __enter__(self) -> DecordDecoding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between chunks."""

    @property
    def summary(self) -> DecodeSummary:
        """What is known after the last frame; asking earlier is a mistake of the caller."""
        assert self._summary is not None, "read every chunk before asking for the summary"
        return self._summary

    def __iter__(self) -> Iterator[FrameChunk]:
        from decord._ffi.base import DECORDError, DECORDLimitReachedError

        sampled, interval_s = self._choose_samples()
        with tempfile.TemporaryFile() as shots, tempfile.TemporaryFile() as samples:
            failure = None
            try:
                self._drain_shots(shots)
                self._drain_samples(sampled, samples)
            except (DECORDError, DECORDLimitReachedError, _WrongCountError) as error:
                failure = _first_line(error)
            if failure is None:
                yield from self._chunks(sampled, interval_s, shots, samples)
                self._summary = self._make_summary(1.0 / interval_s)
                return
        yield from self._by_pyav(f"decord failed: {failure}")

    def _by_pyav(self, reason: str) -> Iterator[FrameChunk]:
        with Decoding(self._path, self._config, on_frame=self._on_frame, reason=reason) as decoding:
            yield from decoding
            self._summary = decoding.summary

    def _choose_samples(self) -> tuple[list[int], float]:
        config, times_s = self._config, self._times_s
        sampler = Sampler(sample_fps=config.sample_fps, max_frames=config.max_sampled_frames)
        for time_s in times_s:
            sampler.take(time_s)
        kept = set(sampler.kept)
        return [i for i, time_s in enumerate(times_s) if time_s in kept], sampler.interval_s

    def _drain_shots(self, out: IO[bytes]) -> None:
        weights = area_weights(MIN_WIDTH, SHOT_WIDTH)
        for frames_FHWC in self._read(MIN_WIDTH, SHOT_HEIGHT):
            narrow = np.matmul(weights, frames_FHWC.astype(np.float32))
            out.write((narrow + 0.5).astype(np.uint8).data)

    def _drain_samples(self, indices: Sequence[int], out: IO[bytes]) -> None:
        """Write the frames at `indices` (increasing) to `out`, reading in sequence."""
        wanted, offset = set(indices), 0
        for frames_FHWC in self._read(*self._size):
            for i in range(len(frames_FHWC)):
                if offset + i in wanted:
                    out.write(frames_FHWC[i].data)
            offset += len(frames_FHWC)

    def _read(self, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
        """Yield every frame in batches; never pauses for longer than a batch is stored."""
        import decord

        reader = decord.VideoReader(
            self._path,
            ctx=decord.cpu(0),
            width=width,
            height=height,
            num_threads=1,
            fault_tol=1,
        )
        count = len(self._times_s)
        if len(reader) != count:
            raise _WrongCountError(f"{len(reader)} frames announced, {count} expected")
        for first in range(0, count, _BATCH_FRAMES):
            batch = range(first, min(first + _BATCH_FRAMES, count))
            frames = reader.get_batch(list(batch)).asnumpy()
            if frames.shape != (len(batch), height, width, 3):
                raise _WrongCountError(f"frames of shape {frames.shape}")
            if self._on_frame is not None:
                self._on_frame()
            yield frames

    def _chunks(
        self, sampled: list[int], interval_s: float, shots: IO[bytes], samples: IO[bytes]
    ) -> Iterator[FrameChunk]:
        shots.seek(0)
        samples.seek(0)
        index = np.array(sampled, np.int64)
        times_s = np.array(self._times_s, np.float64)
        for first in range(0, len(times_s), self._config.chunk_frames):
            here = times_s[first : first + self._config.chunk_frames]
            inside = index[(index >= first) & (index < first + len(here))] - first
            yield FrameChunk(
                times_s=here,
                shot_frames=_take(shots, (len(here), SHOT_HEIGHT, SHOT_WIDTH, 3)),
                sampled_index=inside,
                sampled_frames=self._take_samples(samples, len(inside)),
                sample_interval_s=interval_s,
            )

    def frames_at(
        self, times_s: Sequence[float], slack_s: float
    ) -> dict[float, NDArray[np.uint8]] | None:
        """Return {time: frame} for those of `times_s` that have one; None where decord fails."""
        from decord._ffi.base import DECORDError, DECORDLimitReachedError

        known = np.array(self._times_s)
        nearest = {t: int(np.argmin(np.abs(known - t))) for t in times_s}
        found = {t: i for t, i in nearest.items() if abs(known[i] - t) <= slack_s}
        indices = sorted(set(found.values()))
        with tempfile.TemporaryFile() as samples:
            try:
                self._drain_samples(indices, samples)
            except (DECORDError, DECORDLimitReachedError, _WrongCountError):
                return None
            samples.seek(0)
            frames = dict(zip(indices, self._take_samples(samples, len(indices)), strict=True))
        return {t: frames[i] for t, i in found.items()}

    def _take_samples(self, file: IO[bytes], count: int) -> NDArray[np.uint8]:
        width, height = self._size
        return _take(file, (count, height, width, 3) if count else (0, 0, 0, 3))

    def _make_summary(self, sample_fps: float) -> DecodeSummary:
        return DecodeSummary(
            info=self.info,
            num_frames=len(self._times_s),
            num_errors=0,
            start_s=self._times_s[0],
            end_s=self._times_s[-1] + self._last_shown_s,
            backend="decord",
            backend_reason="asked for and admitted",
            sample_fps=sample_fps,
            gaps=tuple(self._clock.gaps),
            warnings=self._clock.warnings(),
        )


def require_decord() -> None:
    """Raise ConfigError where decord is asked for and not installed."""
    if find_spec("decord") is None:
        raise ConfigError(
            "video.backend=decord needs the package decord, which has wheels for Linux on x86-64 "
            f"only. This machine ({platform.system()} on {platform.machine()}) has none: use "
            "video.backend=pyav, the default, which decodes the same files."
        )


class _WrongCountError(Exception):
    """decord's frames are not those that the packets announce."""


def _take(file: IO[bytes], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    size = int(np.prod(shape))
    data = np.frombuffer(file.read(size), np.uint8)
    return data.reshape(shape)


def _first_line(error: Exception) -> str:
    """Return the error's first line without decord's own source positions."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _POSITION.sub("", first)[:300]
