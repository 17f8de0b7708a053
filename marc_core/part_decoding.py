"""A part of a video, decoded and scored by itself: what `decode_video` gives of a whole one.

    sought:         decode_part(Part) for each, anywhere, in any order
    in order:       marc_core.in_order: one pass, each part of it as soon as it is complete

Both feed the shot detector from a multiple of its window on, with its context on both sides, so
that the scores of a part's frames are those of one pass over the video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.types import BoundaryKind, DecodeSummary, FrameChunk, Span
from marc_core.video.clock import repaired_by
from marc_core.video.decode import stack_frames
from marc_core.video.parts import ZONE_S, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import EventConfig
    from marc_core.events import ShotDetector
    from marc_core.video import IsolatedDecoder


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenPart:
    """A part's frames and the zones around it, after decoding.

    times_s: (F,); shot_scores: (F,) float32; dark: (F,). span: the frames that are its own.
    sampled_index: (S,) indices into times_s, of own frames only; sampled_frames: (S, H, W, 3).
    head, tail: digests of the zones at its seams, None at the video's ends. summary: of the
    decoding; its gaps, start and end are those of all frames here.
    """

    part: Part
    summary: DecodeSummary
    times_s: NDArray[np.float64]
    shot_scores: NDArray[np.float32]
    dark: NDArray[np.bool_]
    span: Span
    sampled_index: NDArray[np.int64]
    sampled_frames: NDArray[np.uint8]
    head: str | None
    tail: str | None


def decode_part(
    path: str, part: Part, decoder: IsolatedDecoder, detector: ShotDetector, *, stream: int = 0
) -> SeenPart:
    """Decode a part of a file that can be sought; frames of shots without a sample are read once
    more. Raises the VideoError of whatever is wrong with the file."""
    with decoder.open(path, stream=stream, part=part) as decoding:
        taken = Taken(part, detector, decoding.info.fps)
        for chunk in decoding:
            taken.push(chunk)
        seen = taken.finish(decoding.summary)
    repaired = repaired_by(seen.summary.warnings)
    asked: dict[str, Any] = {"stream": stream, "repaired": repaired, "part": part}
    return with_missing(seen, detector.config, partial(decoder.read_frames, path, **asked))


def with_missing(
    seen: SeenPart,
    config: EventConfig,
    read: Callable[[list[float]], list[NDArray[np.uint8]]],
) -> SeenPart:
    """Return the part with frames for shots that have none; read: returns the frames of times."""
    from marc_core.events import frames_to_add

    missing = frames_to_add(
        seen.times_s,
        seen.shot_scores,
        seen.sampled_index,
        config,
        dark_F=seen.dark,
        gaps=seen.summary.gaps,
        end_s=seen.summary.end_s,
        span=seen.span,
    )
    if not len(missing):
        return seen
    more = read(seen.times_s[missing].tolist())
    index = np.concatenate([seen.sampled_index, missing])
    frames = np.stack([*seen.sampled_frames, *more])
    order = np.argsort(index)
    return replace(seen, sampled_index=index[order], sampled_frames=frames[order])


class Taken:
    """Takes what is decoded of a part, frame after frame; its end may be told later (`end_at`)."""

    def __init__(self, part: Part, detector: ShotDetector, fps: float | None) -> None:
        from marc_core.events import ThinnedDetector

        self.part, self.config = part, detector.config
        self.shots = ThinnedDetector(detector, fps)
        self.times: list[NDArray[np.float64]] = []
        self.samples: list[tuple[float, NDArray[np.uint8]]] = []
        self.head = None if part.from_s is None else _Zone(part.from_s)
        self.tail = None if part.to_s is None else _Zone(part.to_s)

    def end_at(self, to_s: float) -> None:
        """Learn where the part ends, before any frame of the zone there is taken."""
        self.part = replace(self.part, to_s=to_s)
        self.tail = _Zone(to_s)

    def push(self, chunk: FrameChunk) -> None:
        """Take the next frames."""
        self.shots.push(chunk.shot_frames, chunk.times_s)
        self.times.append(chunk.times_s)
        for zone in (self.head, self.tail):
            if zone is not None:
                zone.push(chunk)
        low_s, high_s = self.part.seen_s
        times_S = chunk.times_s[chunk.sampled_index].tolist()
        self.samples += [
            (time_s, frame)
            for time_s, frame in zip(times_S, chunk.sampled_frames, strict=True)
            if low_s <= time_s < high_s
        ]

    def finish(self, summary: DecodeSummary) -> SeenPart:
        """Return the part, cut down to its own frames and the zones around them."""
        times_s = np.concatenate(self.times)
        scores, dark = self.shots.finish_with_dark()
        low_s, high_s = self.part.seen_s
        inside = (times_s >= low_s) & (times_s < high_s)
        times_s, scores, dark = times_s[inside], scores[inside], dark[inside]
        gaps = tuple(gap for gap in summary.gaps if times_s[0] < gap[1] <= times_s[-1])
        found = (times_s, scores, dark, gaps, self.config)
        first, kind, score = (0, _START, 1.0) if self.head is None else self.head.seam(*found)
        end = len(times_s) if self.tail is None else self.tail.seam(*found)[0]
        kept = [(t, f) for t, f in self.samples if times_s[first] <= t <= times_s[end - 1]]
        return SeenPart(
            part=self.part,
            summary=replace(summary, num_frames=end - first, gaps=gaps),
            times_s=times_s,
            shot_scores=scores,
            dark=dark,
            span=Span(first=first, end=end, kind=kind, score=score),
            sampled_index=np.searchsorted(times_s, [t for t, _ in kept]).astype(np.int64),
            sampled_frames=stack_frames([f for _, f in kept]),
            head=None if self.head is None else self.head.digest,
            tail=None if self.tail is None else self.tail.digest,
        )


_START: BoundaryKind = "start"


class _Zone:
    """The frames around a seam: both of its parts see them."""

    def __init__(self, seam_s: float) -> None:
        self.seam_s = seam_s
        self._hashes = hashlib.sha256(), hashlib.sha256()

    @property
    def digest(self) -> str:
        """Digest of the zone's times and small frames."""
        return "".join(hashed.hexdigest()[:12] for hashed in self._hashes)

    def inside(self, times_s: NDArray[np.float64]) -> slice:
        """Return which of these frames lie in the zone."""
        edges = [self.seam_s - ZONE_S, self.seam_s + ZONE_S]
        return slice(*np.searchsorted(times_s, edges).tolist())

    def push(self, chunk: FrameChunk) -> None:
        """Take the next frames."""
        own = self.inside(chunk.times_s)
        times, frames = self._hashes
        times.update(chunk.times_s[own].tobytes())
        frames.update(chunk.shot_frames[own].tobytes())

    def seam(
        self,
        times_s: NDArray[np.float64],
        scores: NDArray[np.float32],
        dark: NDArray[np.bool_],
        gaps: Sequence[tuple[float, float]],
        config: EventConfig,
    ) -> tuple[int, BoundaryKind, float]:
        """Return where among these frames the parts divide: (frame, kind, score)."""
        from marc_core.events import seam_at

        own = self.inside(times_s)
        frame = int(np.searchsorted(times_s[own], self.seam_s))
        near = [gap for gap in gaps if times_s[own][0] < gap[1] <= times_s[own][-1]]
        found, kind, score = seam_at(
            times_s[own], scores[own], frame, config, dark_F=dark[own], gaps=near
        )
        return own.start + found, kind, score
