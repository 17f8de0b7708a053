"""Cutting the hierarchies of several events at a budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marc_core.compress import cut_events, event_hierarchy
from marc_core.compress.hierarchy import cut
from marc_core.errors import AnswerError
from marc_core.types import EventFeatures


def event(groups: int, seed: int, *, start_s: float = 0.0, grid=(2, 2), layers: int = 0):
    generator = torch.manual_seed(seed)
    tokens = grid[0] * grid[1]
    x = torch.randn(1 + layers, groups, tokens, 8, generator=generator)
    return event_hierarchy(
        EventFeatures(
            groups_TPD=x[0],
            grid_hw=grid,
            times_T=start_s + 2.0 * torch.arange(groups),
            num_source_groups=groups,
            deepstack_LTPD=x[1:] if layers else None,
        ),
        max_tokens=40,
    )


def test_each_event_is_cut_at_its_share():
    events = [event(5, seed, start_s=20.0 * seed) for seed in range(3)]
    found = cut_events(events, [1], 9)
    assert np.bincount(found.events_N).tolist() == [1, 7, 1]
    for e in range(3):
        rows = cut(events[e], int((found.events_N == e).sum()))
        torch.testing.assert_close(found.tokens_ND[found.events_N == e], events[e].nodes_RD[rows])
    assert found.num_tokens == 9
    assert found.num_source_tokens == 60
    assert (np.diff(found.seconds_N) >= 0).all()


def test_events_share_alike_where_none_is_named():
    events = [event(5, seed) for seed in range(4)]
    assert np.bincount(cut_events(events, [], 9).events_N).tolist() == [3, 2, 2, 2]


def test_no_budget_is_one_frame_of_the_largest_grid():
    events = [event(5, 0), event(5, 1, grid=(3, 4))]
    assert cut_events(events, [0], 0).num_tokens == 12


def test_an_event_without_a_share_gives_nothing():
    found = cut_events([event(5, seed) for seed in range(3)], [2], 1)
    assert found.events_N.tolist() == [2]


def test_everything_fits_a_large_budget():
    events = [event(3, seed) for seed in range(2)]
    found = cut_events(events, [0], 1000)
    assert found.num_tokens == 24
    shown = {tuple(row) for row in found.tokens_ND.numpy().round(4).tolist()}
    leaves = {
        tuple(row)
        for e in events
        for row in e.nodes_RD[torch.from_numpy(e.counts_R == 1)].numpy().round(4).tolist()
    }
    assert shown == leaves


def test_deepstack_follows_the_tokens():
    events = [event(4, seed, layers=2) for seed in range(2)]
    found = cut_events(events, [0], 7)
    assert found.deepstack_LND.shape == (2, 7, 8)


def test_no_event_is_a_clear_error():
    with pytest.raises(AnswerError, match="at least one event"):
        cut_events([], [], 9)
