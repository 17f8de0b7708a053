"""Training-free alternatives to the merge, at equal visual tokens.

Before the vision tower: uniform_frame, fewer_frames, low_resolution (which frames, how large).
After it: random_groups, moviechat, vidcom2 (which tokens of the encoded groups).

Honest differences from the papers. MovieChat (Song et al. 2023) merges frames of a sliding short
memory and keeps the results as long memory; here groups, in windows of `MOVIECHAT_WINDOW` merged
to `MOVIECHAT_KEPT`, then merged on to the budget. VidCom2 (Liu et al. 2025) keeps the most
unique tokens of each frame, more of unique frames; here the most unique are kept at each place
of the grid, so that every token keeps its place and the student reads whole groups.

Letters: T groups, P tokens of a group, K groups kept, D channels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from marc_core.compress import CompressedVideo, compress_across, groups_for_tokens, merge_plan
from marc_core.compress.stages import join_events
from marc_core.config import CompressConfig
from marc_core.evaluation.config import VariantConfig
from marc_core.prepared import Compressor, Uncut
from marc_core.types import EventFeatures

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOVIECHAT_WINDOW, MOVIECHAT_KEPT = 8, 2
"""Groups of the short memory, and what remains of it (16 frames to 2, as its authors merge)."""

FRAME_BASELINES = frozenset({"uniform_frame", "fewer_frames", "low_resolution"})

Frames = list[tuple[str, "NDArray[np.int64]"]]
_WHOLE = CompressConfig(mode="none")


def pick_frames(frames: Frames, variant: VariantConfig, tokens: int) -> Frames:
    """Return the frames that the baseline encodes, as (event id, positions) of a grid row each.

    tokens: visual tokens of a group of full-size frames.
    """
    if variant.baseline not in FRAME_BASELINES:
        return frames
    owner = [event for event, positions in frames for _ in positions]
    all_positions = np.concatenate([positions for _, positions in frames])
    groups = groups_for_tokens(variant.budget_tokens, (1, tokens))
    if variant.baseline == "low_resolution":
        most = 2 * groups * tokens  # one token a group is the least there is
        return [(owner[0], all_positions[_spread(len(owner), most)])]
    a_group = 1 if variant.baseline == "uniform_frame" else 2
    chosen = _spread(len(owner), groups * a_group)
    rows = [chosen[i : i + a_group] for i in range(0, len(chosen), a_group)]
    return [(owner[row[0]], all_positions[row]) for row in rows]


def _spread(num: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` of `num` items: the middles of equal parts."""
    if num <= most:
        return np.arange(num)
    return np.asarray((np.arange(most) + 0.5) * num / most, dtype=np.int64)


def small_pixels(variant: VariantConfig, groups: int, tokens: int, unit: int) -> int:
    """Return the pixels of a shrunken frame such that `groups` of them fit the budget, 0 for
    frames as they are. unit: pixels on a side of one token."""
    if variant.baseline != "low_resolution":
        return 0
    budget = groups_for_tokens(variant.budget_tokens, (1, tokens)) * tokens
    return max(1, budget // max(1, groups)) * unit * unit


def shrink(frames_FHWC: NDArray[np.uint8], max_pixels: int, unit: int) -> NDArray[np.uint8]:
    """Return the frames at the largest whole number of tokens within `max_pixels`."""
    from marc_core.models.preprocess import smart_resize

    height, width = frames_FHWC.shape[1:3]
    size = smart_resize(height, width, unit=unit, max_pixels=max_pixels)
    x_FCHW = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(0, 3, 1, 2)
    small = F.interpolate(x_FCHW, size=size, mode="bicubic", antialias=True)
    return np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy())


def compressor(variant: VariantConfig, *, seed: int) -> Compressor | None:
    """Return what takes the merge's place, None where nothing does.

    Frame baselines have acted before encoding: all of their tokens are kept. seed: decides,
    together with the question and its events, the random groups.
    """
    if variant.baseline == "none":
        return None

    def cut(uncut: Uncut, budget_tokens: int) -> CompressedVideo:
        if variant.baseline in FRAME_BASELINES:
            return compress_across(uncut.groups, _WHOLE)
        joined = join_events(uncut.groups)
        kept = min(groups_for_tokens(budget_tokens, joined.grid_hw), joined.groups_TPD.shape[0])
        if variant.baseline == "moviechat":
            return compress_across(
                [_linear(joined, moviechat_plan(joined.groups_TPD, kept))], _WHOLE
            )
        if variant.baseline == "random_groups":
            events = ",".join(hit.event_id for hit in uncut.chosen.hits)
            rows = random_rows(joined, kept, f"{seed}/{uncut.chosen.question.text}/{events}")
        else:
            rows = unique_rows(joined.groups_TPD, kept)
        return compress_across([_take(joined, rows)], _WHOLE)

    return cut


def random_rows(event: EventFeatures, kept: int, seed: str) -> torch.Tensor:
    """Return (K, P): the same `kept` random groups at every place, in order of time."""
    digest = hashlib.sha256(seed.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    num, tokens, _ = event.groups_TPD.shape
    rows = np.sort(rng.choice(num, size=kept, replace=False))
    return torch.from_numpy(rows)[:, None].expand(-1, tokens)


def moviechat_plan(x_TPD: torch.Tensor, kept: int) -> torch.Tensor:
    """Return W (K, T): windows merged to a few groups each, then all of these to `kept`."""
    num = x_TPD.shape[0]
    first = torch.zeros(0, num)
    for start in range(0, num, MOVIECHAT_WINDOW):
        part = x_TPD[start : start + MOVIECHAT_WINDOW]
        share = math.ceil(kept * len(part) / num)  # no window falls below the budget's share
        plan = merge_plan(part, max(MOVIECHAT_KEPT, share))
        row = torch.zeros(plan.shape[0], num)
        row[:, start : start + len(part)] = plan
        first = torch.cat([first, row])
    long_term = torch.tensordot(first.to(x_TPD.device), x_TPD.float(), dims=([1], [0]))
    return merge_plan(long_term, kept) @ first


def unique_rows(x_TPD: torch.Tensor, kept: int) -> torch.Tensor:
    """Return (K, P): for every place the `kept` groups whose token there is most unique.

    Uniqueness is minus the cosine to the video's mean token, plus minus the cosine to the group's
    mean token (VidCom2's two levels).
    """
    x = F.normalize(x_TPD.float(), dim=-1)
    video, group = x.mean((0, 1), keepdim=True), x.mean(1, keepdim=True)
    score_TP = -F.cosine_similarity(x, video, dim=-1) - F.cosine_similarity(x, group, dim=-1)
    return score_TP.topk(kept, dim=0).indices.sort(dim=0).values.cpu()


def _take(event: EventFeatures, rows_KP: torch.Tensor) -> EventFeatures:
    """Return the tokens that `rows_KP` names, place by place; times are their means."""
    rows = rows_KP.to(event.groups_TPD.device)
    places = torch.arange(event.groups_TPD.shape[1], device=rows.device)
    deepstack = event.deepstack_LTPD
    return dataclasses.replace(
        event,
        groups_TPD=event.groups_TPD[rows, places],
        times_T=event.times_T[rows_KP].mean(1),
        deepstack_LTPD=None if deepstack is None else deepstack[:, rows, places],
        counts_T=None,
    )


def _linear(event: EventFeatures, plan_KT: torch.Tensor) -> EventFeatures:
    from marc_core.compress import apply_plan

    deepstack = event.deepstack_LTPD
    return dataclasses.replace(
        event,
        groups_TPD=apply_plan(plan_KT, event.groups_TPD),
        times_T=apply_plan(plan_KT, event.times_T),
        deepstack_LTPD=None if deepstack is None else apply_plan(plan_KT, deepstack, dim=1),
        counts_T=None,
    )
