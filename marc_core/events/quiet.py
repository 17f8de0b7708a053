"""Stretches in which nothing changes: there is no cut in them, so the shot detector may pass by.

    frames of the detector --means of 3 x 3 pixels--> 9 x 16 tiles --> steps and ranges of 50 frames
                                                                            |
    two of these in a row are a window of the detector: quiet where both its steps and its
    ranges are small

A cut moves many tiles in one step. A dissolve or a fade moves each by little at a time, but far in
the end, so it shows in the ranges. Noise is averaged out over a tile, and what moves in the picture
of a fixed camera covers few of them (docs/footage.md has the figures that the bounds come from).

Shape letters: F frames, R x C = 9 x 16 tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from marc_core.config import EventConfig
from marc_core.events.transnet import FRAME_HEIGHT, FRAME_WIDTH

TILE_PX = 3
ROWS, COLUMNS = FRAME_HEIGHT // TILE_PX, FRAME_WIDTH // TILE_PX
RANGE_QUANTILE = 0.8
"""Share of tiles whose range must be small (measured; with all of them, whoever walks through the
picture would end the quiet)."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changes in a run of frames.

    low_R3C, high_R3C: least and greatest grey level of each tile and colour. steps: the largest
    share of tiles that moved from one frame to the next, the step into the run included.
    last_R3C: tiles of the last frame.
    """

    low_R3C: Tensor
    high_R3C: Tensor
    steps: float
    last_R3C: Tensor


def change_in(frames_FHWC: Tensor, before: Change | None, config: EventConfig) -> Change:
    """Return what changes in (F, 27, 48, 3) uint8 frames, which follow the run `before`."""
    tiles = tile_means(frames_FHWC)
    if before is None:
        steps = tiles.diff(dim=0)
    else:
        steps = torch.cat([before.last_R3C[None], tiles]).diff(dim=0)
    moved_F = (steps.abs().amax(dim=2) > config.quiet_step_grey).flatten(1).float().mean(dim=1)
    low, high = tiles.aminmax(dim=0)
    return Change(low, high, float(moved_F.max()) if len(moved_F) else 0.0, tiles[-1])


def is_quiet(runs: Sequence[Change], config: EventConfig) -> bool:
    """Return whether nothing changes in these runs of frames, which follow each other."""
    if max(run.steps for run in runs) > config.quiet_step_share:
        return False
    low = torch.stack([run.low_R3C for run in runs]).amin(dim=0)
    high = torch.stack([run.high_R3C for run in runs]).amax(dim=0)
    ranges = (high - low).amax(dim=1).flatten()
    return float(ranges.quantile(RANGE_QUANTILE)) < config.quiet_range_grey


def tile_means(frames_FHWC: Tensor) -> Tensor:
    """Return (F, 9, 3, 16) float32 means of 3 x 3 pixels, by row, colour and column."""
    F = len(frames_FHWC)
    lines = frames_FHWC.to(torch.int16).view(F, ROWS, TILE_PX, FRAME_WIDTH * 3)
    sums = lines[:, :, 0] + lines[:, :, 1] + lines[:, :, 2]
    return (sums.float().flatten(0, 1) @ _column_sums()).view(F, ROWS, 3, COLUMNS)


@cache
def _column_sums() -> Tensor:
    """Return (48 * 3, 3 * 16): which pixel and colour of a line belong to which colour and tile."""
    weights = torch.zeros(COLUMNS, TILE_PX, 3, 3, COLUMNS)
    for column in range(COLUMNS):
        for colour in range(3):
            weights[column, :, colour, colour, column] = 1 / TILE_PX**2
    return weights.view(FRAME_WIDTH * 3, 3 * COLUMNS)
