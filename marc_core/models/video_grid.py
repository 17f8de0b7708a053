"""Evidence as a plain video: what an engine can express that takes a grid and a spacing alone.

    positions of visual tokens --video_grid--> (K groups, h x w tokens, ticks between groups)
                                    |
                                    +--> AnswerError where they are no such video

Such an engine computes positions itself: group k at floor(k x ticks), rows and columns from 0, the
text behind at 1 + the largest index. A grid is returned only where this gives the evidence's own.

Letters: K groups, N visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from marc_core.errors import AnswerError
from marc_core.evidence import Evidence

_REMEDY = "Use the transformers engine"


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoGrid:
    """groups of height x width tokens in raster order, `ticks_per_group` temporal indices apart."""

    groups: int
    height: int
    width: int
    ticks_per_group: float


def video_grid(evidence: Evidence, *, ticks_per_group: float | None = None) -> VideoGrid | None:
    """Return the grid that evidence forms; None where it shows no video.

    ticks_per_group: the only spacing that the family has, None where any can be given. Raises
    AnswerError for evidence that is no single grid with evenly spaced times.
    """
    if not evidence.runs:
        return None
    if len(evidence.runs) > 1 or evidence.deepstack_LND is not None:
        raise AnswerError(
            "Evidence for this engine must be one run of visual tokens without deepstack features. "
            f"Got {len(evidence.runs)} runs (Qwen3-VL writes one a group). {_REMEDY}."
        )
    groups, height, width = _shape(evidence.positions_N3)
    ticks_K = evidence.positions_N3[:: height * width, 0].tolist()
    spacing = _spacing(ticks_K) if ticks_per_group is None else ticks_per_group
    if spacing is None or not _fits(ticks_K, spacing):
        allowed = "evenly spaced" if ticks_per_group is None else f"{ticks_per_group:g} apart"
        raise AnswerError(
            f"Times of the groups must be {allowed} for this engine. Got temporal indices "
            f"{ticks_K[:8]}. {_REMEDY}, or set student.temporal_positions=grid "
            "(in training as well)."
        )
    return VideoGrid(groups=groups, height=height, width=width, ticks_per_group=spacing)


def _shape(positions_N3: torch.Tensor) -> tuple[int, int, int]:
    """Return (K, h, w) of positions that are K equal groups in raster order from row and column 0.

    Raises AnswerError for others.
    """
    height, width = (int(i) + 1 for i in positions_N3[:, 1:].amax(0))
    groups, rest = divmod(len(positions_N3), height * width)
    if not rest:
        raster_N = torch.arange(len(positions_N3)) % (height * width)
        time_N = positions_N3[:: height * width, 0].repeat_interleave(height * width)
        whole_N3 = torch.stack([time_N, raster_N // width, raster_N % width], dim=1)
        if torch.equal(whole_N3, positions_N3):
            return groups, height, width
    raise AnswerError(
        "Visual tokens for this engine must be whole groups of equal size in raster order, each at "
        f"one time. Got {len(positions_N3)} tokens on {height} rows and {width} columns that are "
        f"not. {_REMEDY}."
    )


def _spacing(ticks_K: Sequence[int]) -> float | None:
    """Return x with floor(k * x) = ticks_K[k] for every k, None where there is none.

    The middle of all such x: the farthest from rounding errors.
    """
    later = list(enumerate(ticks_K))[1:]
    if not later:
        return 1.0
    least = max(tick / k for k, tick in later)
    above = min((tick + 1) / k for k, tick in later)
    return (least + above) / 2 if least < above else None


def _fits(ticks_K: Sequence[int], spacing: float) -> bool:
    return all(int(k * spacing) == tick for k, tick in enumerate(ticks_K))
