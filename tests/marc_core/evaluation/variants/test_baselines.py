"""The training-free baselines, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from marc_core.archive import SearchHit
from marc_core.evaluation.config import VariantConfig
from marc_core.evaluation.variants import baselines
from marc_core.prepared import Chosen, Uncut
from marc_core.question import Question
from marc_core.types import EventFeatures


def variant(baseline: Any, budget_tokens: int = 0) -> VariantConfig:
    return VariantConfig(events="all", baseline=baseline, budget_tokens=budget_tokens)


def cut(
    event: EventFeatures, baseline: Any, groups: int = 1, *, seed: int = 0, text: str = "a"
) -> Any:
    """What a baseline keeps of one event, at `groups` groups of four tokens."""
    compressor = baselines.compressor(variant(baseline), seed=seed)
    assert compressor is not None
    hits = (SearchHit(event_id="e", video_id="v", uri="u", part=0, index=0, start_s=0, end_s=9),)
    chosen = Chosen(question=Question(text=text), hits=hits, retrieval="bypassed")
    uncut = Uncut(chosen=chosen, features=(event,), origin="decoded", source_tokens=0)
    return compressor(uncut, 4 * groups)


FRAMES = [("a", np.arange(0, 4)), ("c", np.arange(10, 16))]


def test_uniform_frame_takes_the_middles_of_equal_parts() -> None:
    ((event, positions),) = baselines.pick_frames(FRAMES, variant("uniform_frame"), 9)
    assert (event, positions.tolist()) == ("c", [11])
    two = baselines.pick_frames(FRAMES, variant("uniform_frame", 18), 9)
    assert [(e, p.tolist()) for e, p in two] == [("a", [2]), ("c", [13])]


def test_fewer_frames_takes_pairs() -> None:
    ((event, positions),) = baselines.pick_frames(FRAMES, variant("fewer_frames"), 9)
    assert (event, positions.tolist()) == ("a", [2, 13])


def test_low_resolution_fits_the_budget() -> None:
    ((_, positions),) = baselines.pick_frames(FRAMES, variant("low_resolution"), 3)
    assert len(positions) == 6  # three groups of one token each
    pixels = baselines.small_pixels(variant("low_resolution"), 3, 9, 28)
    assert pixels == 3 * 28 * 28
    frames = np.zeros((2, 84, 84, 3), np.uint8)
    assert baselines.shrink(frames, pixels, 28).shape == (2, 28, 28, 3)
    assert baselines.small_pixels(variant("vidcom2"), 3, 9, 28) == 0


def features(groups: int = 20, tokens: int = 4) -> EventFeatures:
    generator = torch.Generator().manual_seed(0)
    return EventFeatures(
        groups_TPD=torch.randn(groups, tokens, 8, generator=generator),
        grid_hw=(2, 2),
        times_T=torch.arange(groups, dtype=torch.float32),
        num_source_groups=groups,
        deepstack_LTPD=torch.randn(2, groups, tokens, 8, generator=generator),
    )


def test_random_groups_are_whole_groups_in_order() -> None:
    event = features()
    video = cut(event, "random_groups", 3)
    times = video.times_K.tolist()
    assert times == sorted(times)
    for row, time in enumerate(times):
        assert torch.equal(video.groups_KPD[row], event.groups_TPD[int(time)])
    assert video.deepstack_LKPD is not None
    assert torch.equal(video.deepstack_LKPD[:, 0], event.deepstack_LTPD[:, int(times[0])])
    again = cut(event, "random_groups", 3)
    assert torch.equal(video.groups_KPD, again.groups_KPD)
    other = cut(event, "random_groups", 3, text="b")
    assert not torch.equal(video.groups_KPD, other.groups_KPD)
    reseeded = cut(event, "random_groups", 3, seed=1)
    assert not torch.equal(video.groups_KPD, reseeded.groups_KPD)


def test_moviechat_plan_averages_and_never_crosses_windows_first() -> None:
    x = features().groups_TPD
    plan = baselines.moviechat_plan(x, 10)  # shares 4, 4 and 2 of windows of 8, 8 and 4
    assert plan.shape == (10, 20)
    assert torch.allclose(plan.sum(1), torch.ones(10))
    for row in plan:  # no group reaches across a border
        windows = {int(i) // baselines.MOVIECHAT_WINDOW for i in row.nonzero().flatten()}
        assert len(windows) == 1
    assert baselines.moviechat_plan(x, 1).shape == (1, 20)


def test_vidcom2_keeps_the_odd_token_at_its_place() -> None:
    x = torch.ones(5, 4, 8)
    x[3, 2] = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])
    rows = baselines.unique_rows(x, 1)
    assert rows.shape == (1, 4)
    assert rows[0, 2] == 3
    event = EventFeatures(
        groups_TPD=x, grid_hw=(2, 2), times_T=torch.arange(5.0), num_source_groups=5
    )
    video = cut(event, "vidcom2")
    assert torch.equal(video.groups_KPD[0, 2], x[3, 2])


def test_budget_above_the_video_keeps_everything() -> None:
    for baseline in ("random_groups", "moviechat", "vidcom2"):
        video = cut(features(4), baseline, 9)
        assert video.groups_KPD.shape[0] == 4
