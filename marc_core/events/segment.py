"""From scores and embeddings to events that tile a video.

    shot scores -> transitions -> shots --long ones--> change points in their embeddings
                                    |                          |
                                    +------ boundaries --------+
                                               |
              events shorter than min_event_s lose their weaker boundary
                                               |
              events longer than max_event_s are split evenly -> list[Event]

Every frame belongs to exactly one event, and an event ends where the next begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marc_core.config import EventConfig
from marc_core.events.change_points import change_points
from marc_core.events.shots import transitions
from marc_core.types import BoundaryKind, Event

_ONLY_FRAME_S = 0.04
"""Duration of the only frame of a video (our choice: 25 fps)."""
_STRENGTH: dict[BoundaryKind, int] = {"max_length": 0, "semantic": 1, "shot": 2, "start": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Boundary:
    """The first frame of an event, and why it is one."""

    frame: int
    kind: BoundaryKind
    score: float


def segment(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    sampled_index: NDArray[np.int64],
    embeddings_SD: NDArray[np.floating] | None,
    config: EventConfig,
    *,
    dark_F: NDArray[np.bool_] | None = None,
) -> list[Event]:
    """Cut a video into events that tile its F >= 1 frames.

    times_s: (F,) float64 strictly increasing timestamps; shot_scores: (F,) of `ShotDetector`.
    sampled_index: (S,) ascending frame indices of the sampled frames, embeddings_SD: (S, D) of
    them, or None to cut at shots only. dark_F: (F,) black frames, so that a fade to black and
    back is one boundary.
    """
    F = len(times_s)
    assert F >= 1, "an empty video has no events"
    assert len(shot_scores) == F, (len(shot_scores), F)
    edges_s = np.append(times_s, times_s[-1] + _frame_duration_s(times_s))
    boundaries = _shot_boundaries(times_s, shot_scores, dark_F, config)
    if embeddings_SD is not None and config.change_points:
        assert len(embeddings_SD) == len(sampled_index)
        boundaries = _with_change_points(
            boundaries, edges_s, np.asarray(sampled_index), embeddings_SD, config
        )
    boundaries = _without_short(boundaries, edges_s, config.min_event_s)
    boundaries = _with_splits(boundaries, edges_s, config)
    return _events(boundaries, edges_s)


def _frame_duration_s(times_s: NDArray[np.float64]) -> float:
    """Return how long the last frame is shown: as long as the median frame."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else _ONLY_FRAME_S


def _shot_boundaries(
    times_s: NDArray[np.float64],
    shot_scores: NDArray[np.float32],
    dark_F: NDArray[np.bool_] | None,
    config: EventConfig,
) -> list[_Boundary]:
    """Return the video's start and one boundary per transition."""
    start = _Boundary(frame=0, kind="start", score=1.0)
    found = transitions(shot_scores, config.shot_threshold, times_s=times_s, dark_F=dark_F)
    shots = [_Boundary(frame=t.boundary, kind="shot", score=min(t.peak, 1.0)) for t in found]
    return [start, *(b for b in shots if b.frame < len(times_s))]


def _with_change_points(
    shots: list[_Boundary],
    edges_s: NDArray[np.float64],
    sampled_index: NDArray[np.int64],
    embeddings_SD: NDArray[np.floating],
    config: EventConfig,
) -> list[_Boundary]:
    """Add boundaries inside shots of at least `change_point_min_shot_s`."""
    ends = [b.frame for b in shots[1:]] + [len(edges_s) - 1]
    result: list[_Boundary] = []
    for shot, end in zip(shots, ends, strict=True):
        result.append(shot)
        if edges_s[end] - edges_s[shot.frame] < config.change_point_min_shot_s:
            continue
        inside = slice(*np.searchsorted(sampled_index, [shot.frame, end]))
        index_S, x_SD = sampled_index[inside], embeddings_SD[inside]
        cuts = change_points(x_SD, edges_s[index_S], config)
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
    boundaries: list[_Boundary], edges_s: NDArray[np.float64], min_event_s: float
) -> list[_Boundary]:
    """Join events shorter than `min_event_s`, shortest first, to the neighbour more like them.

    The more similar neighbour is the one behind the weaker boundary: a change point is weaker
    than a cut, then the lower score is. At the video's ends there is only one neighbour.
    """
    kept = list(boundaries)
    while len(kept) > 1:
        starts = np.array([b.frame for b in kept] + [len(edges_s) - 1])
        durations_s = np.diff(edges_s[starts])
        i = int(durations_s.argmin())
        if durations_s[i] >= min_event_s:
            break
        if i == 0:
            del kept[1]
        elif i == len(kept) - 1 or _strength(kept[i]) <= _strength(kept[i + 1]):
            del kept[i]
        else:
            del kept[i + 1]
    return kept


def _strength(boundary: _Boundary) -> tuple[int, float]:
    return _STRENGTH[boundary.kind], boundary.score


def _with_splits(
    boundaries: list[_Boundary], edges_s: NDArray[np.float64], config: EventConfig
) -> list[_Boundary]:
    """Split events longer than `max_event_s` into equal parts, as far as frames allow.

    No part becomes shorter than `min_event_s` (a gap in the timestamps could make one).
    """
    ends = [b.frame for b in boundaries[1:]] + [len(edges_s) - 1]
    result: list[_Boundary] = []
    for boundary, end in zip(boundaries, ends, strict=True):
        result.append(boundary)
        start_s, end_s = edges_s[boundary.frame], edges_s[end]
        parts = math.ceil((end_s - start_s) / config.max_event_s - 1e-9)
        for target_s in np.linspace(start_s, end_s, parts + 1)[1:-1]:
            frame = int(np.searchsorted(edges_s, target_s))
            since_s = edges_s[frame] - edges_s[result[-1].frame]
            shorter_s = min(since_s, end_s - edges_s[frame])
            if result[-1].frame < frame < end and shorter_s >= config.min_event_s:
                result.append(_Boundary(frame=frame, kind="max_length", score=0.0))
    return result


def _events(boundaries: list[_Boundary], edges_s: NDArray[np.float64]) -> list[Event]:
    ends = [b.frame for b in boundaries[1:]] + [len(edges_s) - 1]
    return [
        Event(
            index=i,
            start_s=float(edges_s[b.frame]),
            end_s=float(edges_s[end]),
            first_frame=b.frame,
            end_frame=end,
            kind=b.kind,
            score=b.score,
        )
        for i, (b, end) in enumerate(zip(boundaries, ends, strict=True))
    ]
