"""Position ids: the authors' rule, the library's rule, and time."""

from __future__ import annotations

import pytest
import torch

from marc_core.models.positions import VisualBlock, position_ids, ticks

VIDEO = [False] * 2 + [True] * 8 + [False] * 3


def test_the_authors_rule_starts_text_after_the_largest_index():
    block = VisualBlock((0, 4), (2, 2))
    positions = position_ids(VIDEO, [block], rule="max")
    assert positions[0].tolist() == [0, 1, 2, 2, 2, 2, 6, 6, 6, 6, 7, 8, 9]
    assert positions[1].tolist() == [0, 1, 2, 2, 3, 3, 2, 2, 3, 3, 7, 8, 9]
    assert positions[2].tolist() == [0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 7, 8, 9]


def test_the_librarys_rule_ignores_time():
    positions = position_ids(VIDEO, [VisualBlock((0, 4), (2, 2))], rule="hf5")
    assert positions[0].tolist() == [0, 1, 2, 2, 2, 2, 6, 6, 6, 6, 4, 5, 6]


def test_text_only():
    assert position_ids([False] * 3, [], rule="max").tolist() == [[0, 1, 2]] * 3


@pytest.mark.parametrize("blocks", [2, 0])
def test_blocks_and_runs_of_video_tokens_must_match(blocks):
    with pytest.raises(AssertionError, match="visual block"):
        position_ids(VIDEO, [VisualBlock((0, 4), (2, 2))] * blocks, rule="max")


def test_ticks_equal_grid_times_seconds_for_even_sampling():
    for interval in (0.5, 1.0, 2.0, 1.001 * 2, 2.5):
        times = (torch.arange(64, dtype=torch.float64) * interval + 0.5).float()
        grid = (torch.arange(64) * (2 * interval)).long().tolist()
        assert list(ticks(times, 2.0, interval)) == grid


def test_ticks_follow_real_gaps_and_step_on_when_time_runs_backwards():
    assert ticks(torch.tensor([10.0, 12.0, 60.0]), 2.0, 2.0) == (0, 4, 100)
    assert ticks(torch.tensor([60.0, 62.0, 3.0, 5.0]), 2.0, 2.0) == (0, 4, 8, 12)
