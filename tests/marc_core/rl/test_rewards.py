"""Rewards, retention and advantages against values computed by hand."""

from __future__ import annotations

import pytest
import torch

from marc_core.rl.advantage import advantages, expected_advantages, has_variance
from marc_core.rl.rewards import (
    accuracies,
    compression_reward,
    gated_rewards,
    length_reward,
    retention,
)


def test_retention_is_the_share_of_the_teacher_s_accuracy():
    correct = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    teacher = torch.tensor([[1, 1], [1, 0], [0, 0]])
    eta = retention(accuracies(correct), accuracies(teacher))
    torch.testing.assert_close(eta[:2], torch.tensor([0.75, 0.5]))
    assert eta[2].isnan()


def test_retention_is_rewarded_above_tau_and_not_where_the_teacher_fails():
    eta = torch.tensor([0.5, 0.6, 1.0, 1.5, torch.nan])
    expected = torch.tensor([0.0, 0.0, 0.8, 1.8, 0.0])
    torch.testing.assert_close(compression_reward(eta, alpha=2.0, tau=0.6), expected)


def test_only_right_answers_about_videos_gain_from_retention():
    reward = torch.tensor([[1.0, 0.0], [1.0, 0.5]])
    correct = torch.tensor([[1, 0], [1, 0]])
    r_c = torch.tensor([0.4, 0.4])
    found = gated_rewards(reward, correct, r_c, is_video_Q=torch.tensor([True, False]))
    torch.testing.assert_close(found, torch.tensor([[1.4, 0.0], [1.0, 0.5]]))


def test_answers_that_do_not_count_leave_accuracy_alone():
    correct = torch.tensor([[1, 0, 0, 1]])
    mask = torch.tensor([[1, 1, 0, 0]])
    assert accuracies(correct, mask).item() == 0.5
    assert accuracies(correct, torch.zeros(1, 4)).item() == 0.0


def test_length_is_rewarded_for_right_answers_inside_the_bounds():
    lengths = torch.tensor([[10, 100, 100, 1000]])
    correct = torch.tensor([[1, 1, 0, 1]])
    found = length_reward(lengths, correct, least=50, most=500, weight=0.2)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.2, 0.0, 0.0]]))


def test_advantages_by_hand():
    reward = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.0]])
    plain = torch.tensor([[0.5, -0.5, -0.5, 0.5], [1.5, -0.5, -0.5, -0.5]])
    torch.testing.assert_close(advantages(reward, scale="none"), plain)
    by_group = advantages(reward, scale="group", epsilon=0.0)
    torch.testing.assert_close(by_group[0], plain[0] / (1 / 3) ** 0.5)
    torch.testing.assert_close(by_group[1], plain[1] / 1.0)
    by_batch = advantages(reward, scale="batch", epsilon=0.0)
    torch.testing.assert_close(by_batch, plain / reward.std())


@pytest.mark.parametrize("scale", ["group", "none", "batch"])
def test_a_group_of_equal_rewards_teaches_nothing(scale):
    reward = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert has_variance(reward).tolist() == [False, True]
    assert advantages(reward, scale=scale)[0].tolist() == [0.0, 0.0]


def test_with_a_binary_reward_division_by_the_group_s_spread_cancels_the_retention_reward():
    correct = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    with_rc = gated_rewards(correct, correct, torch.tensor([0.4]))
    by_group = [advantages(r, scale="group") for r in (correct, with_rc)]
    assert (by_group[0] - by_group[1]).abs().max() < 3e-4
    undivided = [advantages(r, scale="none") for r in (correct, with_rc)]
    torch.testing.assert_close(undivided[1], 1.4 * undivided[0])


def test_the_expectation_over_options_has_the_policy_gradient():
    scores = torch.tensor([[0.3, -0.2, 0.5, 9.0]], requires_grad=True)
    reward = torch.tensor([[0.0, 1.0, 0.0, 5.0]])
    mask = torch.tensor([[True, True, True, False]])
    expected = expected_advantages(scores.log_softmax(-1), reward, mask_QO=mask)
    p = scores[0, :3].detach().softmax(-1)
    torch.testing.assert_close(expected, p[1][None])
    expected.sum().backward()
    torch.testing.assert_close(scores.grad[0, :3], p * (reward[0, :3] - p[1]))
    assert scores.grad[0, 3].abs() < 1e-6
