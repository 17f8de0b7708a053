"""From scores and embeddings to events that tile a video.

    shot scores -> transitions -> shots --long ones--> change points in their embeddings
                                    |                          |
                                    +------ boundaries --------+
                                               |
              events shorter than min_event_s lose their weaker boundary
                                               |
              events longer than max_event_s are split every max_event_s -> list[Event]

Every frame belongs to exactly one event, and an event ends where the next begins or where a gap
in the source's clock does: no event spans a gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from marc_core.config import EventConfig
from marc_core.events.change_points import change_points
from marc_core.events.shots import transitions
from marc_core.types import BoundaryKind, Event, Span

_ONLY_FRAME_S = 0.04
"""Duration of the only frame of a video (our choice: 25 fps)."""
_SLACK_S = 1e-6
"""Rounding of times allowed where a cut is looked for at a given one."""
_STRENGTH: dict[BoundaryKind, int] = {"max_length": 0, "semantic": 1, "shot": 2}
_FIXED = frozenset({"start", "gap"})
"""Boundaries that no rule removes; the first one is another."""
SEAM_S = 1.0
"""A part begins at a boundary of shots that lies so close to its seam (our choice: as short as the
shortest event)."""

Gaps = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Boundary:
    """The first frame of an event, and why it is one."""

    frame: int
    kind: BoundaryKind
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timeline:
    """When each of F frames is shown: [starts_s[i], stops_s[i]); stops differ from the next start
    at gaps only. `unbroken_s`: the starts, had there been no gaps. gap_frames: first after each."""

    starts_s: NDArray[np.float64]
    stops_s: NDArray[np.float64]
    unbroken_s: NDArray[np.float64]
    gap_frames: list[int]

    @classmethod
    def of(cls, times_s: NDArray[np.float64], gaps: Gaps, end_s: float | None) -> _Timeline:
        if end_s is None:
            end_s = float(times_s[-1]) + _frame_duration_s(times_s)
        stops_s, unbroken_s = np.append(times_s[1:], end_s), times_s.copy()
        frames = [int(np.searchsorted(times_s, after_s)) for _, after_s in gaps]
        for (before_s, after_s), frame in zip(gaps, frames, strict=True):
            stops_s[frame - 1] = before_s
            unbroken_s[frame:] -= after_s - before_s
        return cls(starts_s=times_s, stops_s=stops_s, unbroken_s=unbroken_s, gap_frames=frames)

    def __len__(self) -> int:
        return len(self.starts_s)

    def duration_s(self, first: int, end: int) -> float:
        """Return how long the frames [first, end), between which there is no gap, are shown."""
        return float(self.stops_s[end - 1] - self.starts_s[first])

    def within(self, first: int, end: int) -> _Timeline:
        """Return the frames [first, end), numbered from 0."""
        return _Timeline(
            starts_s=self.starts_s[first:end],
            stops_s=self.stops_s[first:end],
            unbroken_s=self.unbroken_s[first:end],
            gap_frames=[frame - first for frame in self.gap_frames if first < frame < end],
        )

    def ends(self, boundaries: Sequence[_Boundary]) -> list[int]:
        """Return the frame after the last one of each event."""
        return [b.frame for b in boundaries[1:]] + [len(self)]


def segment(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    sampled_index: NDArray[np.int64],
    embeddings_SD: NDArray[np.floating] | None,
    config: EventConfig,
    *,
    dark_F: NDArray[np.bool_] | None = None,
    gaps: Gaps = (),
    end_s: float | None = None,
    span: Span | None = None,
) -> list[Event]:
    """Cut a video into events that tile its F >= 1 frames.

    times_s: (F,) float64 strictly increasing times; shot_scores: (F,) of `ShotDetector`.
    sampled_index: (S,) ascending frame indices of the sampled frames, embeddings_SD: (S, D) of
    them, or None to cut at shots only. dark_F: (F,) black frames, so that a fade to black and
    back is one boundary. gaps, end_s: as in DecodeSummary; without end_s the last frame is shown
    as long as the median one. span: of all these frames, cut only those; None: all.
    """
    line, boundaries = _shots(times_s, shot_scores, config, dark_F, gaps, end_s, span)
    first = 0 if span is None else span.first
    sampled_index = np.asarray(sampled_index) - first
    if embeddings_SD is not None and config.change_points:
        assert len(embeddings_SD) == len(sampled_index)
        boundaries = _with_change_points(boundaries, line, sampled_index, embeddings_SD, config)
    boundaries = _without_short(boundaries, line, config.min_event_s)
    boundaries = _with_splits(boundaries, line, sampled_index, config)
    return _events(boundaries, line, first)


def seam_at(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    frame: int,
    config: EventConfig,
    *,
    dark_F: NDArray[np.bool_] | None = None,
    gaps: Gaps = (),
) -> tuple[int, BoundaryKind, float]:
    """Return where a part begins whose seam is at `frame`: (frame, kind, score).

    That is a gap or the surest shot boundary within `SEAM_S` that joining short events leaves, else
    the seam itself. Arguments are those of `segment` for the frames of the seam's zone: both parts
    know them, so both agree.
    """
    line = _timeline(times_s, shot_scores, gaps, None)
    seam_s = times_s[frame]

    def away_s(b: _Boundary) -> float:
        return float(
            min(abs(line.starts_s[b.frame] - seam_s), abs(line.stops_s[b.frame - 1] - seam_s))
        )

    shots = _shot_boundaries(line, shot_scores, dark_F, config)
    shots = _without_short(shots, line, config.min_event_s)
    near = [b for b in shots[1:] if away_s(b) <= SEAM_S + _SLACK_S]
    if not near:
        return frame, "part", 0.0
    best = max(near, key=lambda b: (b.kind == "gap", b.score, -away_s(b)))
    return best.frame, best.kind, best.score


def frames_to_add(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    sampled_index: NDArray[np.int64],
    config: EventConfig,
    *,
    dark_F: NDArray[np.bool_] | None = None,
    gaps: Gaps = (),
    end_s: float | None = None,
    span: Span | None = None,
) -> NDArray[np.int64]:
    """Return frames to sample besides `sampled_index`, so that every event will hold a sample.

    Arguments as of `segment`. One near the middle of each shot that has none, or only black ones
    although not all of it is black (a cut lies half-way through the black); and more, where
    samples are further apart than half of `max_event_s`. Events are joined shots, cut only where
    a sample lies on either side, so none is left without.
    """
    line, shots = _shots(times_s, shot_scores, config, dark_F, gaps, end_s, span)
    own = slice(0, None) if span is None else slice(span.first, span.end)
    sampled_index = np.asarray(sampled_index) - own.start
    sampled = set(sampled_index.tolist())
    shown_F = np.ones(len(line), np.bool_) if dark_F is None else ~dark_F[own]
    for shot, end in zip(shots, line.ends(shots), strict=True):
        first, after = np.searchsorted(sampled_index, [shot.frame, end])
        shown = shot.frame + np.flatnonzero(shown_F[shot.frame : end])
        if first == after or (len(shown) and not shown_F[sampled_index[first:after]].any()):
            middle_s = line.starts_s[shot.frame] + line.duration_s(shot.frame, end) / 2
            middle = int(np.searchsorted(line.starts_s, middle_s, "right")) - 1
            middle = min(max(middle, shot.frame), end - 1)
            sampled.add(int(shown[np.abs(shown - middle).argmin()]) if len(shown) else middle)
    sampled |= set(_between(sorted(sampled), line, config.max_event_s / 2))
    return own.start + np.array(sorted(sampled - set(sampled_index.tolist())), np.int64)


def _between(samples: Sequence[int], line: _Timeline, most_s: float) -> Iterator[int]:
    """Yield frames, so that neighbours are at most `most_s` apart, or have no frame between."""
    times_s, last = line.unbroken_s, len(line) - 1
    for sample, following in pairwise([*samples, last]):
        while following - sample > 1 and times_s[following] - times_s[sample] > most_s:
            reached = int(np.searchsorted(times_s, times_s[sample] + most_s, "right")) - 1
            sample = max(reached, sample + 1)
            yield sample
    if line.stops_s[-1] - line.starts_s[samples[-1]] > most_s:
        yield last


def _shots(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    config: EventConfig,
    dark_F: NDArray[np.bool_] | None,
    gaps: Gaps,
    end_s: float | None,
    span: Span | None,
) -> tuple[_Timeline, list[_Boundary]]:
    """Return the frames to cut, numbered from 0, and where shots of them begin."""
    line = _timeline(times_s, shot_scores, gaps, end_s)
    shots = _shot_boundaries(line, shot_scores, dark_F, config)
    if span is None:
        return line, shots
    first = span.first
    inside = [replace(b, frame=b.frame - first) for b in shots if first < b.frame < span.end]
    start = _Boundary(frame=0, kind=span.kind, score=span.score)
    return line.within(first, span.end), [start, *inside]


def _timeline(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    gaps: Gaps,
    end_s: float | None,
) -> _Timeline:
    assert len(times_s) >= 1, "an empty video has no events"
    assert len(shot_scores) == len(times_s), (len(shot_scores), len(times_s))
    return _Timeline.of(times_s, gaps, end_s)


def _frame_duration_s(times_s: NDArray[np.float64]) -> float:
    """Return how long the last frame is shown: as long as the median frame."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else _ONLY_FRAME_S


def _shot_boundaries(
    line: _Timeline,
    shot_scores: NDArray[np.float32],
    dark_F: NDArray[np.bool_] | None,
    config: EventConfig,
) -> list[_Boundary]:
    """Return the video's start, one boundary per gap and one per transition, in order."""
    found = {0: _Boundary(frame=0, kind="start", score=1.0)}
    for frame in line.gap_frames:
        found[frame] = _Boundary(frame=frame, kind="gap", score=1.0)
    times_s = line.unbroken_s
    for t in transitions(shot_scores, config.shot_threshold, times_s=times_s, dark_F=dark_F):
        shot = _Boundary(frame=t.boundary, kind="shot", score=min(t.peak, 1.0))
        if shot.frame < len(line):
            found.setdefault(shot.frame, shot)
    return [found[frame] for frame in sorted(found)]


def _with_change_points(
    shots: list[_Boundary],
    line: _Timeline,
    sampled_index: NDArray[np.int64],
    embeddings_SD: NDArray[np.floating],
    config: EventConfig,
) -> list[_Boundary]:
    """Add boundaries inside shots of at least `change_point_min_shot_s`."""
    result: list[_Boundary] = []
    for shot, end in zip(shots, line.ends(shots), strict=True):
        result.append(shot)
        if line.duration_s(shot.frame, end) < config.change_point_min_shot_s:
            continue
        inside = slice(*np.searchsorted(sampled_index, [shot.frame, end]))
        index_S, x_SD = sampled_index[inside], embeddings_SD[inside]
        cuts = change_points(x_SD, line.starts_s[index_S], config)
        for before, cut, after in zip([0, *cuts], cuts, [*cuts[1:], len(x_SD)], strict=False):
            frame = int(index_S[cut - 1] + index_S[cut] + 1) // 2
            score = _distance(x_SD[before:cut], x_SD[cut:after])
            result.append(_Boundary(frame=frame, kind="semantic", score=score))
    return result


def _distance(a_SD: NDArray[np.floating], b_SD: NDArray[np.floating]) -> float:
    """Return 1 - cosine of the two means, in [0, 1]."""
    a, b = (x.astype(np.float64).mean(axis=0) for x in (a_SD, b_SD))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return min(max(1.0 - float(a @ b) / max(norms, 1e-12), 0.0), 1.0)


def _without_short(
    boundaries: list[_Boundary], line: _Timeline, min_event_s: float
) -> list[_Boundary]:
    """Join events shorter than `min_event_s`, shortest first, to the neighbour more like them.

    The more similar neighbour is the one behind the weaker boundary: a change point is weaker
    than a cut, then the lower score is. At the video's ends and at gaps there is only one
    neighbour; between two gaps there is none.
    """
    kept = list(boundaries)
    while True:
        fixed = np.array([True, *(b.kind in _FIXED for b in kept[1:]), True])
        starts = np.array([b.frame for b in kept] + [len(line)])
        durations_s = line.stops_s[starts[1:] - 1] - line.starts_s[starts[:-1]]
        durations_s[fixed[:-1] & fixed[1:]] = np.inf
        i = int(durations_s.argmin())
        if durations_s[i] >= min_event_s:
            return kept
        if fixed[i]:
            del kept[i + 1]
        elif fixed[i + 1] or _strength(kept[i]) <= _strength(kept[i + 1]):
            del kept[i]
        else:
            del kept[i + 1]


def _strength(boundary: _Boundary) -> tuple[int, float]:
    return _STRENGTH[boundary.kind], boundary.score


def _with_splits(
    boundaries: list[_Boundary],
    line: _Timeline,
    sampled_index: NDArray[np.int64],
    config: EventConfig,
) -> list[_Boundary]:
    """Split events longer than `max_event_s` every `max_event_s` from their start.

    Where an event ends thus moves none of its earlier cuts (a part's end may be such a place). A
    cut is left out, and the event before it longer, where what it leaves would be shorter than
    `min_event_s` or hold no sample.
    """
    result: list[_Boundary] = []
    for boundary, end in zip(boundaries, line.ends(boundaries), strict=True):
        result.append(boundary)
        start_s, end_s = line.starts_s[boundary.frame], line.stops_s[end - 1]
        cuts = math.ceil((end_s - start_s) / config.max_event_s - 1e-9) - 1
        for target_s in start_s + config.max_event_s * np.arange(1, cuts + 1):
            frame = int(np.searchsorted(line.starts_s, target_s - _SLACK_S))
            if not result[-1].frame < frame < end:
                continue
            since_s = line.starts_s[frame] - line.starts_s[result[-1].frame]
            if min(since_s, end_s - line.starts_s[frame]) < config.min_event_s - _SLACK_S:
                continue
            edges = np.searchsorted(sampled_index, [result[-1].frame, frame, end])
            if (np.diff(edges) > 0).all():
                result.append(_Boundary(frame=frame, kind="max_length", score=0.0))
    return result


def _events(boundaries: list[_Boundary], line: _Timeline, first: int) -> list[Event]:
    return [
        Event(
            index=i,
            start_s=float(line.starts_s[b.frame]),
            end_s=float(line.stops_s[end - 1]),
            first_frame=first + b.frame,
            end_frame=first + end,
            kind=b.kind,
            score=b.score,
        )
        for i, (b, end) in enumerate(zip(boundaries, line.ends(boundaries), strict=True))
    ]
