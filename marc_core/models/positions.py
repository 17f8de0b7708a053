"""Position ids (temporal, height, width) of a prompt with one compressed video.

Built by ourselves for student and teacher alike: the installed library starts the text after a
video at `start + max(h, w)` and ignores time; the authors' rule, with which the checkpoints were
trained, is the maximum over all axes + 1 (64 frames at 1 fps: 12 against 128).

Letters: S tokens of a sequence, K groups, h w tokens of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

_HALF_TICK = 0.02
"""Added before rounding down, against float32 seconds such as 3.9999998; below the resolution of
times anyway (our choice)."""


@dataclass(frozen=True, slots=True)
class VisualBlock:
    """One run of video tokens: temporal index of each group, and tokens per row and column."""

    temporal_index: tuple[int, ...]
    grid_hw: tuple[int, int]

    @property
    def num_tokens(self) -> int:
        return len(self.temporal_index) * self.grid_hw[0] * self.grid_hw[1]


def position_ids(
    is_video_S: Sequence[bool], blocks: Sequence[VisualBlock], *, rule: Literal["max", "hf5"]
) -> torch.Tensor:
    """Return (3, S) int64. Runs of video tokens take the blocks in order; the rest is text.

    rule: where the text after a block starts, "max" = 1 + the block's largest index on any axis
    (authors), "hf5" = the block's start + max(h, w) (transformers 5.20 - 5.23).
    """
    pieces: list[torch.Tensor] = []
    start, at, remaining = 0, 0, list(blocks)
    while at < len(is_video_S):
        if is_video_S[at]:
            assert remaining, "more runs of video tokens than visual blocks"
            block = remaining.pop(0)
            pieces.append(block_positions(block) + start)
            at += block.num_tokens
            largest = int(pieces[-1].max()) + 1
            start = largest if rule == "max" else start + max(block.grid_hw)
        else:
            end = at + 1
            while end < len(is_video_S) and not is_video_S[end]:
                end += 1
            pieces.append(torch.arange(start, start + end - at).expand(3, -1))
            start, at = start + end - at, end
    assert not remaining, "more visual blocks than runs of video tokens"
    positions = torch.cat(pieces, dim=1)
    assert positions.shape[1] == len(is_video_S), "video tokens do not match the visual blocks"
    return positions


def ticks(times_K: torch.Tensor, per_second: float, interval_s: float) -> tuple[int, ...]:
    """Return temporal indices from seconds: floor((t_k - t_0) * per_second).

    Evenly sampled frames get exactly the library's grid index x seconds x per_second. Where time
    runs backwards, the next event comes from another video: it follows one interval later.
    """
    steps = times_K.double().diff()
    steps = torch.where(steps < 0, torch.full_like(steps, interval_s), steps)
    elapsed = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])
    return tuple((elapsed * per_second + _HALF_TICK).long().tolist())


def block_positions(block: VisualBlock) -> torch.Tensor:
    """Return the (3, N) indices of a block's tokens, counted from its start."""
    height, width = block.grid_hw
    t, h, w = torch.meshgrid(
        torch.tensor(block.temporal_index),
        torch.arange(height),
        torch.arange(width),
        indexing="ij",
    )
    return torch.stack([t, h, w]).reshape(3, -1)
