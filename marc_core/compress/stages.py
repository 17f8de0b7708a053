"""The two stages: inside each event at index time, across events at question time.

    event frames -> vision tower -> EventFeatures (T groups)
      compress_event     T -> ceil(rho * T), adjacent groups of one event     (stored in the memory)
      compress_across    all events' groups -> what budget_tokens holds       (per question)
    -> CompressedVideo (K groups), which the student reads as a video of K groups.

Honest differences from the paper: it gives neither rho nor the window m (both are ours, see
CompressConfig); events of different frame shapes, which its benchmarks do not have, are first
resized to one grid; the counts behind `weighted` and `restore_norm` are ours.

Letters: T source groups, K merged groups, P tokens of a group, D channels, L deepstack layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from marc_core.compress.hierarchy import TREE_VERSION, Hierarchy, event_hierarchy
from marc_core.compress.merge import MergeMode, apply_plan, merge_plan
from marc_core.config import CompressConfig, fingerprint
from marc_core.errors import AnswerError
from marc_core.types import EventFeatures

StoredFeatures = EventFeatures | Hierarchy
"""What a memory keeps of an event."""


@dataclass(frozen=True, slots=True)
class CompressedVideo:
    """What the student sees of a question's events: K groups that read like a short video.

    groups_KPD: (K, P, D). grid_hw: (h, w), h * w = P. times_K: (K,) float32 seconds, the merged
    centres of the groups. deepstack_LKPD: (L, K, P, D) or None. num_source_groups: temporal groups
    before any merging. group_interval_s: median distance in time of the K groups, 1 for one.
    """

    groups_KPD: torch.Tensor
    grid_hw: tuple[int, int]
    times_K: torch.Tensor
    num_source_groups: int
    deepstack_LKPD: torch.Tensor | None = None
    group_interval_s: float = 1.0

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the language model reads."""
        return self.groups_KPD.shape[0] * self.groups_KPD.shape[1]

    @property
    def num_source_tokens(self) -> int:
        """Visual tokens that it would have read without compression."""
        return self.num_source_groups * self.groups_KPD.shape[1]


def tokens_of(num_groups: int, grid_hw: tuple[int, int]) -> int:
    """Return the visual tokens of `num_groups` groups."""
    return num_groups * grid_hw[0] * grid_hw[1]


def groups_for_tokens(num_tokens: int, grid_hw: tuple[int, int]) -> int:
    """Return the groups that fit into a budget of visual tokens; 0 tokens stand for one group,
    which is one frame's tokens.

    Raises AnswerError for a budget that holds no whole group.
    """
    a_group = grid_hw[0] * grid_hw[1]
    if num_tokens == 0:
        return 1
    if num_tokens < a_group:
        raise AnswerError(
            f"budget_tokens must hold at least one frame's tokens, {a_group} for these events. "
            f"Got {num_tokens}: ask for {a_group} or more, or 0 for one frame's."
        )
    return num_tokens // a_group


def stage1_target(num_groups: int, config: CompressConfig) -> int:
    """Return the groups that stage 1 keeps of an event: ceil(rho * T), all in mode none."""
    return num_groups if config.mode == "none" else math.ceil(config.event_ratio * num_groups)


def stage1_fingerprint(model_fingerprint: str, config: CompressConfig) -> str:
    """Return the name of features: it changes with the student and with every stage-1 setting.

    The budget and other stage-2 settings are not part of it: they apply at question time.
    """
    if config.mode == "none":
        return fingerprint(model_fingerprint, "none")
    if config.mode == "tokens":
        return fingerprint(model_fingerprint, "tokens", config.stored_tokens, TREE_VERSION)
    mode = _mode(config, stage=1)
    return fingerprint(
        model_fingerprint, mode, config.window, config.event_ratio, config.restore_norm
    )


def stored_form(event: EventFeatures, config: CompressConfig) -> StoredFeatures:
    """Return what a memory keeps of an event: its hierarchy in mode tokens, else what stage 1
    leaves of its groups."""
    if config.mode == "tokens":
        return event_hierarchy(event, max_tokens=config.stored_tokens)
    return compress_event(event, config)


def compress_event(event: EventFeatures, config: CompressConfig) -> EventFeatures:
    """Stage 1: merge an event's groups to ceil(event_ratio * T), most similar neighbours first."""
    plan_KT = merge_plan(
        event.groups_TPD,
        stage1_target(event.groups_TPD.shape[0], config),
        window=config.window,
        mode=_mode(config, stage=1),
        counts_T=event.counts_T,
    )
    return _merge(event, plan_KT, restore_norm=config.restore_norm)


def compress_across(
    events: Sequence[EventFeatures], config: CompressConfig, *, budget_tokens: int | None = None
) -> CompressedVideo:
    """Stage 2: join the events in the given order and merge to the groups that the budget holds.

    The order is the caller's (chronological in `Preparer`). Events of other grids are resized to
    the largest one first. budget_tokens: overrides the configuration's; whole groups are merged,
    so a group's remainder stays unused. With `config.adaptive` the budget is a ceiling: neighbours
    that are alike merge below it. Raises AnswerError when there is no event, and for a budget
    that holds no group.
    """
    joined = join_events(events)
    budget = config.budget_tokens if budget_tokens is None else budget_tokens
    everything = joined.groups_TPD.shape[0]
    plan_KT = merge_plan(
        joined.groups_TPD,
        everything if config.mode == "none" else groups_for_tokens(budget, joined.grid_hw),
        mode=_mode(config, stage=2),
        counts_T=joined.counts_T,
        merge_above=config.adaptive_similarity if config.adaptive else None,
    )
    merged = _merge(joined, plan_KT, restore_norm=config.restore_norm)
    steps = merged.times_T.diff()
    steps = steps[steps > 0]
    return CompressedVideo(
        groups_KPD=merged.groups_TPD,
        grid_hw=merged.grid_hw,
        times_K=merged.times_T,
        num_source_groups=merged.num_source_groups,
        deepstack_LKPD=merged.deepstack_LTPD,
        group_interval_s=float(steps.median()) if len(steps) else 1.0,
    )


def join_events(events: Sequence[EventFeatures]) -> EventFeatures:
    """Return one EventFeatures that holds the events' groups one after another, on one grid."""
    if not events:
        raise AnswerError("Compression needs at least one event. Got none: index a video first.")
    grid_hw = max((e.grid_hw for e in events), key=lambda hw: hw[0] * hw[1])
    events = [resize_grid(event, grid_hw) for event in events]
    if len(events) == 1:
        return events[0]
    deepstack = [e.deepstack_LTPD for e in events if e.deepstack_LTPD is not None]
    return EventFeatures(
        groups_TPD=torch.cat([e.groups_TPD for e in events]),
        grid_hw=grid_hw,
        times_T=torch.cat([e.times_T for e in events]),
        num_source_groups=sum(e.num_source_groups for e in events),
        deepstack_LTPD=torch.cat(deepstack, dim=1) if deepstack else None,
        counts_T=torch.cat([_counts(e) for e in events]),
    )


def resize_grid(event: EventFeatures, grid_hw: tuple[int, int]) -> EventFeatures:
    """Return the event with its token grid resized bilinearly to (h, w); itself when equal.

    Our choice: the paper's events share one video. Aligned patches are what similarity and
    averaging need, and the largest grid loses least.
    """
    if event.grid_hw == grid_hw:
        return event
    deepstack = event.deepstack_LTPD
    return replace(
        event,
        groups_TPD=_resize(event.groups_TPD, event.grid_hw, grid_hw),
        grid_hw=grid_hw,
        deepstack_LTPD=None
        if deepstack is None
        else torch.stack([_resize(layer, event.grid_hw, grid_hw) for layer in deepstack]),
    )


def _resize(x_TPD: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    num_groups, _, dim = x_TPD.shape
    x_TDhw = x_TPD.float().reshape(num_groups, *old, dim).permute(0, 3, 1, 2)
    x_TDhw = F.interpolate(x_TDhw, size=new, mode="bilinear", align_corners=False)
    return x_TDhw.permute(0, 2, 3, 1).flatten(1, 2).to(x_TPD.dtype)


def _mode(config: CompressConfig, *, stage: int) -> MergeMode:
    if config.mode == "mixed":
        return "weighted" if stage == 1 else "plain"
    assert config.mode != "tokens", "a hierarchy is cut, not merged"
    return config.mode


def _counts(event: EventFeatures) -> torch.Tensor:
    """Return (T,) source groups behind each group; an equal share where they are not known."""
    if event.counts_T is not None:
        return event.counts_T
    num_groups = event.groups_TPD.shape[0]
    return torch.full((num_groups,), event.num_source_groups / num_groups)


def _merge(event: EventFeatures, plan_KT: torch.Tensor, *, restore_norm: bool) -> EventFeatures:
    groups_KPD = apply_plan(plan_KT, event.groups_TPD)
    if restore_norm:
        groups_KPD = _restore_norm(plan_KT, event.groups_TPD, groups_KPD)
    deepstack = event.deepstack_LTPD
    belongs_KT = (plan_KT > 0).float()
    return EventFeatures(
        groups_TPD=groups_KPD,
        grid_hw=event.grid_hw,
        times_T=apply_plan(plan_KT, event.times_T),
        num_source_groups=event.num_source_groups,
        deepstack_LTPD=None if deepstack is None else apply_plan(plan_KT, deepstack, dim=1),
        counts_T=belongs_KT @ _counts(event).cpu().float(),
    )


def _restore_norm(
    plan_KT: torch.Tensor, x_TPD: torch.Tensor, merged_KPD: torch.Tensor
) -> torch.Tensor:
    """Scale each merged token to the plan's mean of its sources' norms."""
    if plan_KT.shape[0] == plan_KT.shape[1]:
        return merged_KPD
    wanted_KP = apply_plan(plan_KT, x_TPD.float().norm(dim=-1))
    have_KP = merged_KPD.float().norm(dim=-1).clamp_min(1e-6)
    scaled: torch.Tensor = merged_KPD.float() * (wanted_KP / have_KP)[..., None]
    return scaled.to(merged_KPD.dtype)
