"""One timeline for the events of a prompt: where each of them stands in time for the student.

Times count from a video's own 0:00 and stay absolute up to the length that the student was trained
on; beyond it the gaps between the chosen events are shortened, their order and durations kept.
Events of several videos get stretches that do not overlap, in the order in which the videos are
shown. (Our choice; a 24-hour video would otherwise ask for positions that no checkpoint has seen.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

TRAINED_S = 3600.0
"""Trained length of a checkpoint that says none (our choice: Qwen2.5-VL is shown hour-long
videos)."""
LEAST_GAP_S = 2.0
"""Between videos, and between events whose gap is shortened, unless it was shorter (our choice:
one temporal group at 1 fps)."""


@dataclass(frozen=True, slots=True)
class Span:
    """An event: its video, and [start_s, end_s) from that video's own 0:00."""

    video: str
    start_s: float
    end_s: float


def placed_starts(spans: Sequence[Span], longest_s: float) -> NDArray[np.float64]:
    """Return (E,) where each event starts on the prompt's timeline.

    spans: in the order in which they are shown: by time within one video, video after video.
    """
    videos = [list(group) for _, group in groupby(spans, key=lambda span: span.video)]
    leads = [_gaps(group) for group in videos]
    between = LEAST_GAP_S * (len(videos) - 1)
    shown_s = sum(span.end_s - span.start_s for span in spans)
    room_s = longest_s - shown_s - between
    share = _share(np.concatenate(leads), room_s) if spans else 1.0
    starts: list[float] = []
    offset = 0.0
    for group, gaps in zip(videos, leads, strict=True):
        at = offset
        for span, gap in zip(group, gaps, strict=True):
            at += gap if share == 1.0 else min(gap, LEAST_GAP_S + share * max(gap - LEAST_GAP_S, 0))
            starts.append(at)
            at += span.end_s - span.start_s
        offset = at + LEAST_GAP_S
    return np.array(starts)


def is_shortened(spans: Sequence[Span], starts_E: NDArray[np.float64]) -> bool:
    """Return whether some event does not stand at its own seconds."""
    return any(abs(span.start_s - at) > 1e-6 for span, at in zip(spans, starts_E, strict=True))


def _gaps(group: Sequence[Span]) -> NDArray[np.float64]:
    """Return the seconds before each event of one video: from 0:00, then from the one before."""
    ends = [0.0, *(span.end_s for span in group[:-1])]
    return np.array([max(0.0, s.start_s - e) for s, e in zip(group, ends, strict=True)])


def _share(gaps_E: NDArray[np.float64], room_s: float) -> float:
    """Return how much of each gap's part above `LEAST_GAP_S` fits, 1.0 where all of them do."""
    if gaps_E.sum() <= room_s:
        return 1.0
    least = np.minimum(gaps_E, LEAST_GAP_S)
    above = float((gaps_E - least).sum())
    return max(0.0, room_s - float(least.sum())) / above if above else 1.0
