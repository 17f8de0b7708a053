"""The cap of frames of a question whose groups are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from marc_core.frame_cap import cap_frames
from marc_core.types import EventFeatures


def capped(events: Sequence[EventFeatures], most: int) -> list[EventFeatures]:
    """Return the events with at most `most` temporal groups in all, evenly spread over them.

    The cap of `student.max_frames` (paper, section 4: 64 frames): frames are capped by
    `cap_frames` before they are encoded; a group of stored features, which stage 1 may have merged
    from many, counts as one. Events left without a group drop out.
    """
    sizes = [event.groups_TPD.shape[0] for event in events]
    if sum(sizes) <= most:
        return list(events)
    owner = np.repeat(np.arange(len(events)), sizes)
    kept = cap_frames(np.arange(len(owner)), most)
    first = np.cumsum([0, *sizes])
    rows = [kept[owner[kept] == i] - first[i] for i in range(len(events))]
    return [_rows(e, torch.from_numpy(r)) for e, r in zip(events, rows, strict=True) if len(r)]


def _rows(event: EventFeatures, rows: torch.Tensor) -> EventFeatures:
    deepstack, counts = event.deepstack_LTPD, event.counts_T
    return replace(
        event,
        groups_TPD=event.groups_TPD[rows],
        times_T=event.times_T[rows],
        deepstack_LTPD=None if deepstack is None else deepstack[:, rows],
        counts_T=None if counts is None else counts[rows],
    )
