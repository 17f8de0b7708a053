"""Which evidence is a plain video for an engine that computes positions itself."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marc_core.errors import AnswerError
from marc_core.evidence import Evidence, VisualRun
from marc_core.models.positions import VisualBlock, block_positions
from marc_core.models.video_grid import video_grid


def evidence_at(ticks, hw=(2, 3), **changes):
    positions = block_positions(VisualBlock(tuple(ticks), hw)).T
    whole = Evidence(
        before_ids=(1, 2), after_ids=(3,), runs=(VisualRun(ids=(), num_tokens=len(positions)),),
        tokens_ND=torch.zeros(len(positions), 4), positions_N3=positions,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def engine_positions(grid):
    """What vLLM computes of a grid and a spacing: floor(k x spacing), row, column."""
    t, h, w = torch.meshgrid(
        *(torch.arange(n) for n in (grid.groups, grid.height, grid.width)), indexing="ij"
    )
    t = (t.double() * grid.ticks_per_group).long()
    return torch.stack([t, h, w]).reshape(3, -1).T


@given(
    groups=st.integers(1, 64),
    spacing=st.floats(0, 40),
    hw=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_every_even_spacing_is_found_again(groups, spacing, hw):
    evidence = evidence_at([int(k * spacing) for k in range(groups)], hw)
    grid = video_grid(evidence)
    assert (grid.groups, grid.height, grid.width) == (groups, *hw)
    assert torch.equal(engine_positions(grid), evidence.positions_N3)


@given(steps=st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_a_grid_gives_the_own_positions_or_is_refused(steps):
    ticks = [sum(steps[:i]) for i in range(len(steps) + 1)]
    evidence = evidence_at(ticks)
    expressible = any(
        [int(k * x / 840 + 1e-12) for k in range(len(ticks))] == ticks for x in range(6 * 840 + 840)
    )
    if expressible:
        assert torch.equal(engine_positions(video_grid(evidence)), evidence.positions_N3)
    else:
        with pytest.raises(AnswerError, match="evenly spaced"):
            video_grid(evidence)


def test_text_alone_has_no_grid():
    empty = torch.zeros(0, 4)
    positions = torch.zeros(0, 3, dtype=torch.long)
    assert video_grid(evidence_at([0], runs=(), tokens_ND=empty, positions_N3=positions)) is None


@pytest.mark.parametrize("ticks", [[0, 1, 5], [0, 4, 6], [1, 2, 3], [0, 3, 2]])
def test_uneven_times_are_refused_with_a_remedy(ticks):
    with pytest.raises(AnswerError, match=r"evenly spaced.*temporal_positions=grid"):
        video_grid(evidence_at(ticks))


def test_a_family_without_seconds_has_one_spacing():
    assert video_grid(evidence_at([0, 1, 2]), ticks_per_group=1.0).ticks_per_group == 1
    assert video_grid(evidence_at([0]), ticks_per_group=1.0).groups == 1
    with pytest.raises(AnswerError, match="1 apart"):
        video_grid(evidence_at([0, 2, 4]), ticks_per_group=1.0)


@pytest.mark.parametrize("change", ["lacking", "order", "time", "offset"])
def test_tokens_that_are_no_whole_groups_are_refused(change):
    good = evidence_at([0, 2], (2, 2))
    positions = good.positions_N3.clone()
    if change == "lacking":  # own places are kept, but one token has been dropped
        positions = positions[:-1]
    elif change == "order":
        positions = positions[[1, 0, *range(2, 8)]]
    elif change == "time":  # one token keeps a time of its own
        positions[2, 0] = 1
    else:
        positions[:, 1] += 1
    run = VisualRun(ids=(), num_tokens=len(positions))
    with pytest.raises(AnswerError, match="whole groups"):
        video_grid(
            dataclasses.replace(
                good, positions_N3=positions, runs=(run,), tokens_ND=torch.zeros(len(positions), 4)
            )
        )


def test_several_runs_and_deepstack_features_are_refused():
    good = evidence_at([0, 1])
    half = VisualRun(ids=(7,), num_tokens=6)
    for change in ({"runs": (half, half)}, {"deepstack_LND": torch.zeros(1, 12, 4)}):
        with pytest.raises(AnswerError, match="one run"):
            video_grid(dataclasses.replace(good, **change))
