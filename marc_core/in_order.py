"""Parts of a file that cannot be sought: one pass from its beginning, cut on the way.

    frames of the whole file --> held: what a part may need --> Taken --> SeenPart
                                 (context of the detector,      part after part, or those that
                                  zones at its seams)           are asked for

A part begins with the first frame from its time on, whatever the packets promised; the part before
it ends there. Parts are asked for in order; what lies before the one that is asked for is decoded
and let go. The frames of shots that hold no sample are read by a second pass, which follows the
first part by part, and begins with the first such shot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from marc_core.errors import PartBeyondEndError, VideoError
from marc_core.filenames import shown
from marc_core.part_decoding import SeenPart, Taken, with_missing
from marc_core.types import DecodeSummary, FrameChunk
from marc_core.video.layout import part_seconds
from marc_core.video.parts import AFTER, WINDOW, ZONE_S, Part, first_decoded

if TYPE_CHECKING:
    from marc_core.config import VideoConfig
    from marc_core.events import ShotDetector
    from marc_core.video import IsolatedDecoder

LONGEST = 3
"""Times the samples of a part that the last one may have, which goes on for as long as the file
does (our choice: a file of which each packet holds two pictures is twice as long as promised)."""


class InOrder:
    """A pass over a file, in a decoding child of its own. Close it, or use it as a context manager.

    error: what ended it early; nothing of the file can be decoded behind that. decoders: of the
    pass, and of the one that follows it.
    """

    def __init__(
        self, path: str, config: VideoConfig, detector: ShotDetector, *, stream: int = 0
    ) -> None:
        """Begin the pass with the first part that is asked for."""
        from marc_core.video import IsolatedDecoder

        self._path, self._config, self._stream = path, config, stream
        self._detector = detector
        self._decoder, self._reader = IsolatedDecoder(config), IsolatedDecoder(config)
        self.decoders = self._decoder, self._reader
        self._pass: _Pass | None = None
        self._next = 0
        self.error: VideoError | None = None

    def __enter__(self) -> InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the pass."""
        self._decoder.close()
        self._reader.close()

    def reaches(self, part: Part) -> bool:
        """Whether a part lies ahead."""
        return part.number >= self._next

    def part(self, part: Part) -> SeenPart:
        """Decode on to the end of a part that lies ahead. Raises what decoding raises, again for
        all later parts, and PartBeyondEndError."""
        assert self.reaches(part), "parts are asked for in order"
        if self.error is not None:
            raise self.error
        try:
            seen = self._seen(part)
        except PartBeyondEndError:
            raise
        except VideoError as error:
            self.error = error
            self.close()
            raise
        self._next = part.number + 1
        read = partial(self._reader.follow_frames, self._path, stream=self._stream)
        return with_missing(seen, self._detector.config, read)

    def _seen(self, part: Part) -> SeenPart:
        if self._pass is None:
            self._pass = _Pass(
                self._decoder, self._path, self._config, self._detector, self._stream
            )
        return self._pass.part(part)


class _Pass:
    """The frames of a file in order, and what parts make of them."""

    def __init__(
        self,
        decoder: IsolatedDecoder,
        path: str,
        config: VideoConfig,
        detector: ShotDetector,
        stream: int,
    ) -> None:
        whole = Part(
            number=0, video_start_s=0.0, begin_s=None, from_s=None, to_s=None, stop_s=None,
            in_order=True,
        )  # fmt: skip
        self._path, self._config, self._detector = path, config, detector
        self._decoding = decoder.open(path, stream=stream, part=whole)
        self._chunks = iter(self._decoding)
        self._stride = detector.config.stride(self._decoding.info.fps)
        self._held = _Held()
        self._start_s = 0.0
        self._gaps: list[tuple[float, float]] = []
        self._errors, self._errors_told = 0, 0
        self._most_samples = LONGEST * part_seconds(config) * config.sample_fps
        self._left_out = ""

    def part(self, part: Part) -> SeenPart:
        """Decode on to a part and through it, with the zones and the context around it."""
        self._decoding.extend_deadline()
        first = self._begin(part)
        from_s = None if part.from_s is None else self._held.time_s(first)
        own = replace(part, video_start_s=self._start_s, from_s=from_s, to_s=None)
        taken = Taken(own, self._detector, self._decoding.info.fps)
        begin = 0
        if from_s is not None:
            begin = first_decoded(self._held.number_at(from_s - ZONE_S), self._stride)
        end, seam = self._through(taken, begin, part.to_s)
        stop = self._held.end
        if seam is not None:
            taken.end_at(self._held.time_s(seam))
            stop = self._read_behind(self._held.time_s(seam) + ZONE_S)
        for piece in self._held.between(end, stop):
            taken.push(piece)
        return taken.finish(self._summary(ended=seam is None))

    def _begin(self, part: Part) -> int:
        """Read on to a part's first frame; return its number."""
        from_s = -np.inf if part.from_s is None else part.from_s
        while not self._held.reaches(from_s):
            zone = self._held.number_at(from_s - ZONE_S)
            self._held.let_go(first_decoded(zone, self._stride))
            if not self._more():
                raise PartBeyondEndError(
                    f"'{shown(self._path)}' ends before its part {part.number + 1}."
                )
        return self._held.number_at(from_s)

    def _through(self, taken: Taken, begin: int, to_s: float | None) -> tuple[int, int | None]:
        """Give frames from `begin` on up to the zone at the part's end; return the number of the
        next frame to give, and the number of the frame that begins the part behind, if any."""
        given, held = begin, self._held
        while True:
            ready = held.end if to_s is None else held.number_at(to_s - ZONE_S)
            if ready > given:
                for piece in held.between(given, ready):
                    taken.push(piece)
                given = ready
            held.let_go(min(given, first_decoded(ready, self._stride)))
            if to_s is not None and held.reaches(to_s):
                return given, held.number_at(to_s)
            if len(taken.samples) > self._most_samples:
                self._left_out = (
                    f"It goes on for longer than its packets promise. What lies behind "
                    f"{held.last_s:.0f} s is left out; write it anew (ffmpeg -c copy new.mkv)."
                )
                return given, None
            if not self._more():
                return given, None

    def _read_behind(self, zone_end_s: float) -> int:
        """Read on to the end of the context behind a zone; return where it ends."""
        while not self._held.reaches(zone_end_s) and self._more():
            pass
        windows = (self._held.number_at(zone_end_s) - 1) // (WINDOW * self._stride)
        stop = (windows * WINDOW + AFTER) * self._stride
        while self._held.end < stop and self._more():
            pass
        return min(stop, self._held.end)

    def _more(self) -> bool:
        """Hold the next chunk; False where there is none."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        if not self._held.end:
            self._start_s = float(chunk.times_s[0])
        self._gaps += chunk.gaps
        self._errors = chunk.num_errors
        self._held.push(chunk)
        return True

    def _summary(self, *, ended: bool) -> DecodeSummary:
        """Return what is known of the file by now; warnings when it has ended."""
        errors, self._errors_told = self._errors - self._errors_told, self._errors
        known = DecodeSummary(
            info=self._decoding.info,
            num_frames=self._held.end,
            num_errors=errors,
            start_s=self._start_s,
            end_s=self._held.last_s,
            backend="pyav",
            backend_reason="in parts of one pass",
            sample_fps=self._config.sample_fps,
            gaps=tuple(self._gaps),
        )
        if not ended:
            return known
        if self._left_out:
            return replace(known, warnings=(self._left_out,))
        summary = self._decoding.summary
        late = summary.num_errors - self._errors
        return replace(
            known,
            end_s=summary.end_s,
            num_errors=errors + late,
            warnings=summary.warnings,
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """A chunk and the number of its first frame."""

    first: int
    chunk: FrameChunk

    @property
    def end(self) -> int:
        return self.first + len(self.chunk.times_s)


class _Held:
    """The latest frames of a pass, by number. At least one chunk stays.

    end: number of the frame that comes next. last_s: time of the one before it.
    """

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self.end = 0
        self.last_s = -np.inf

    def push(self, chunk: FrameChunk) -> None:
        """Hold the next frames."""
        self._runs.append(_Run(self.end, chunk))
        self.end += len(chunk.times_s)
        self.last_s = float(chunk.times_s[-1])

    def let_go(self, number: int) -> None:
        """Let go of what lies before a frame, chunk by chunk."""
        while len(self._runs) > 1 and self._runs[0].end <= number:
            self._runs.popleft()

    def reaches(self, time_s: float) -> bool:
        """Whether a frame at or after a time is held."""
        return bool(self._runs) and self.last_s >= time_s

    def number_at(self, time_s: float) -> int:
        """Return the number of the first held frame at or after a time; `end` where none is."""
        for run in self._runs:
            if run.chunk.times_s[-1] >= time_s:
                return run.first + int(np.searchsorted(run.chunk.times_s, time_s))
        return self.end

    def time_s(self, number: int) -> float:
        """Return the time of a held frame."""
        run = next(run for run in self._runs if number < run.end)
        return float(run.chunk.times_s[number - run.first])

    def between(self, first: int, end: int) -> Iterator[FrameChunk]:
        """Yield the held frames [first, end)."""
        assert not self._runs or self._runs[0].first <= first, "frames were let go too early"
        for run in self._runs:
            low, high = max(first, run.first), min(end, run.end)
            if low < high:
                yield _slice(run.chunk, low - run.first, high - run.first)


def _slice(chunk: FrameChunk, first: int, end: int) -> FrameChunk:
    kept = (chunk.sampled_index >= first) & (chunk.sampled_index < end)
    return replace(
        chunk,
        times_s=chunk.times_s[first:end],
        shot_frames=chunk.shot_frames[first:end],
        sampled_index=chunk.sampled_index[kept] - first,
        sampled_frames=chunk.sampled_frames[kept],
    )
