"""Stage 1 inside events, stage 2 across them, with times, counts and deepstack features."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from marc_core.compress import compress_across, compress_event, groups_for_tokens, tokens_of
from marc_core.compress.stages import resize_grid, stage1_fingerprint
from marc_core.config import CompressConfig
from marc_core.errors import AnswerError
from marc_core.types import EventFeatures


def event(num=8, *, grid=(2, 3), dim=8, seed=0, start_s=0.0, deepstack=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(num, grid[0] * grid[1], dim, generator=g).cumsum(0)
    extra = torch.randn(deepstack, *x.shape, generator=g) if deepstack else None
    return EventFeatures(
        groups_TPD=x,
        grid_hw=grid,
        times_T=start_s + 2.0 * torch.arange(num, dtype=torch.float32),
        num_source_groups=num,
        deepstack_LTPD=extra,
    )


@pytest.mark.parametrize(("num", "ratio", "kept"), [(8, 0.25, 2), (9, 0.25, 3), (1, 0.25, 1),
                                                    (3, 1.0, 3), (8, 0.01, 1)])  # fmt: skip
def test_stage_1_keeps_ceil_rho_t(num, ratio, kept):
    out = compress_event(event(num), CompressConfig(mode="plain", event_ratio=ratio))
    assert out.groups_TPD.shape[0] == len(out.times_T) == len(out.counts_T) == kept
    assert out.num_source_groups == num
    assert out.counts_T.sum() == num


def test_stage_2_reaches_the_budget_and_keeps_time_in_order():
    config = CompressConfig(mode="plain", budget_tokens=18)
    events = [compress_event(event(8, seed=i, start_s=20.0 * i), config) for i in range(4)]
    video = compress_across(events, config)
    assert video.groups_KPD.shape == (3, 6, 8)
    assert (video.times_K.diff() > 0).all()
    assert video.times_K[0] >= 0
    assert video.times_K[-1] <= 74
    assert (video.num_tokens, video.num_source_tokens) == (18, 192)


def test_mode_none_is_the_identity_in_both_stages():
    config = CompressConfig(mode="none", event_ratio=0.25)
    first, second = event(4), event(3, seed=1, start_s=8.0)
    video = compress_across([compress_event(e, config) for e in (first, second)], config)
    assert torch.equal(video.groups_KPD, torch.cat([first.groups_TPD, second.groups_TPD]))
    assert torch.equal(video.times_K, torch.cat([first.times_T, second.times_T]))
    assert video.group_interval_s == 2.0


def test_weighted_remembers_what_stage_1_merged():
    """Down to one group it is the uniform mean over SOURCE groups, through both stages."""
    config = CompressConfig(mode="weighted", event_ratio=0.25)
    events = [event(8), event(2, seed=1, start_s=16.0)]
    video = compress_across([compress_event(e, config) for e in events], config)
    mean = torch.cat([e.groups_TPD for e in events]).mean(0, keepdim=True)
    torch.testing.assert_close(video.groups_KPD, mean)
    unknown = [replace(compress_event(e, config), counts_T=None) for e in events]
    assert compress_across(unknown, config).groups_KPD.shape == (1, 6, 8)


def test_mixed_is_weighted_inside_and_plain_across():
    config = CompressConfig(mode="mixed", event_ratio=0.1)
    events = [event(8), event(2, seed=1)]
    inside = [compress_event(e, config) for e in events]
    torch.testing.assert_close(inside[0].groups_TPD[0], events[0].groups_TPD.mean(0))
    video = compress_across(inside, config)
    half = (inside[0].groups_TPD + inside[1].groups_TPD) / 2
    torch.testing.assert_close(video.groups_KPD, half)


def test_deepstack_features_follow_the_same_plan():
    config = CompressConfig(mode="plain", budget_tokens=12)
    e = event(8, deepstack=3)
    same = replace(e, deepstack_LTPD=e.groups_TPD[None].repeat(3, 1, 1, 1))
    video = compress_across([compress_event(same, config), compress_event(same, config)], config)
    for layer in video.deepstack_LKPD:
        torch.testing.assert_close(layer, video.groups_KPD)


def test_restore_norm_gives_the_mean_norm_of_the_sources():
    e = event(8)
    plain = compress_event(e, CompressConfig(mode="plain", event_ratio=0.01))
    out = compress_event(e, CompressConfig(mode="weighted", event_ratio=0.01, restore_norm=True))
    torch.testing.assert_close(out.groups_TPD[0].norm(dim=-1), e.groups_TPD.norm(dim=-1).mean(0))
    assert out.groups_TPD.norm() > plain.groups_TPD.norm()


def test_other_grids_are_resized_to_the_largest():
    wide, tall = event(4, grid=(2, 4), deepstack=2), event(4, grid=(3, 2), deepstack=2, seed=1)
    video = compress_across([tall, wide], CompressConfig(mode="plain", budget_tokens=16))
    assert video.grid_hw == (2, 4)
    assert video.groups_KPD.shape == (2, 8, 8)
    assert video.deepstack_LKPD.shape == (2, 2, 8, 8)


def test_resizing_keeps_each_token_where_it_was():
    e = event(2, grid=(2, 2))
    assert resize_grid(e, (2, 2)) is e
    big = resize_grid(e, (4, 4)).groups_TPD
    corners = big[:, [0, 3, 12, 15]]
    torch.testing.assert_close(corners, e.groups_TPD)


def test_no_event_is_a_clear_error():
    with pytest.raises(AnswerError, match="at least one event"):
        compress_across([], CompressConfig(mode="plain"))


def test_stored_features_are_named_by_stage_1_settings_only():
    base = CompressConfig(mode="plain")
    name = stage1_fingerprint("m", base)
    assert name == stage1_fingerprint("m", replace(base, budget_tokens=54))
    assert stage1_fingerprint("m", replace(base, mode="mixed")) == stage1_fingerprint(
        "m", replace(base, mode="weighted")
    )
    others = [
        stage1_fingerprint("n", base),
        *(
            stage1_fingerprint("m", replace(base, **change))
            for change in (
                {"mode": "none"}, {"mode": "weighted"}, {"window": 4}, {"event_ratio": 0.5},
                {"restore_norm": True},
            )
        ),
    ]  # fmt: skip
    assert len({name, *others}) == 7


def test_tokens_and_groups():
    assert tokens_of(3, (9, 9)) == 243
    assert [groups_for_tokens(n, (9, 9)) for n in (0, 81, 161, 162)] == [1, 1, 1, 2]
    with pytest.raises(AnswerError, match="at least one frame's tokens, 81"):
        groups_for_tokens(80, (9, 9))


def test_adaptive_budget_is_a_ceiling():
    """A still event takes one group, a changing one all that the ceiling allows."""
    still = event(8)
    still = replace(still, groups_TPD=still.groups_TPD[:1].expand(8, -1, -1))
    config = CompressConfig(
        mode="plain", budget_tokens=24, adaptive=True, adaptive_similarity=0.999
    )
    assert compress_across([still], config).groups_KPD.shape[0] == 1
    assert compress_across([event(8)], config).groups_KPD.shape[0] == 4
    assert compress_across([still], replace(config, adaptive=False)).groups_KPD.shape[0] == 4
