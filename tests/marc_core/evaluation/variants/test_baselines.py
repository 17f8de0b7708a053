"""The training-free controls, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from marc_core.evaluation.config import ArmConfig
from marc_core.evaluation.variants import baselines
from marc_core.types import EventFeatures


def arm(control: Any, budget: int = 1) -> ArmConfig:
    return ArmConfig(events="all", control=control, budget_groups=budget)


FRAMES = [(0, np.arange(0, 4)), (2, np.arange(10, 16))]


def test_uniform_frame_takes_the_middles_of_equal_parts() -> None:
    ((event, positions),) = baselines.pick_frames(FRAMES, arm("uniform_frame"), 9)
    assert (event, positions.tolist()) == (2, [11])
    two = baselines.pick_frames(FRAMES, arm("uniform_frame", 2), 9)
    assert [(e, p.tolist()) for e, p in two] == [(0, [2]), (2, [13])]


def test_fewer_frames_takes_pairs() -> None:
    ((event, positions),) = baselines.pick_frames(FRAMES, arm("fewer_frames"), 9)
    assert (event, positions.tolist()) == (0, [2, 13])


def test_low_resolution_fits_the_budget() -> None:
    ((_, positions),) = baselines.pick_frames(FRAMES, arm("low_resolution"), 3)
    assert len(positions) == 6  # three groups of one token each
    pixels = baselines.small_pixels(arm("low_resolution"), 3, 9, 28)
    assert pixels == 3 * 28 * 28
    frames = np.zeros((2, 84, 84, 3), np.uint8)
    assert baselines.shrink(frames, pixels, 28).shape == (2, 28, 28, 3)
    assert baselines.small_pixels(arm("vidcom2"), 3, 9, 28) == 0


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
    video = baselines.apply([event], arm("random_groups", 3), seed="0/7")
    times = video.times_K.tolist()
    assert times == sorted(times)
    for row, time in enumerate(times):
        assert torch.equal(video.groups_KPD[row], event.groups_TPD[int(time)])
    assert video.deepstack_LKPD is not None
    assert torch.equal(video.deepstack_LKPD[:, 0], event.deepstack_LTPD[:, int(times[0])])
    again = baselines.apply([event], arm("random_groups", 3), seed="0/7")
    assert torch.equal(video.groups_KPD, again.groups_KPD)
    other = baselines.apply([event], arm("random_groups", 3), seed="0/8")
    assert not torch.equal(video.groups_KPD, other.groups_KPD)


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
    video = baselines.apply([event], arm("vidcom2"), seed="0")
    assert torch.equal(video.groups_KPD[0, 2], x[3, 2])


def test_budget_above_the_video_keeps_everything() -> None:
    for control in ("random_groups", "moviechat", "vidcom2"):
        video = baselines.apply([features(4)], arm(control, 9), seed="0")
        assert video.groups_KPD.shape[0] == 4
