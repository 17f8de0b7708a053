"""Rewards and retention against values computed by hand."""

from __future__ import annotations

import torch

from marc_core.rl.rewards import (
    accuracies,
    compression_reward,
    gated_rewards,
    retention,
)


def test_retention_is_the_share_of_the_teacher_s_accuracy():
    correct = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    teacher = torch.tensor([[1, 1], [1, 0], [0, 0]])
    eta = retention(accuracies(correct), accuracies(teacher))
    torch.testing.assert_close(eta[:2], torch.tensor([0.75, 0.5]))
    assert eta[2].isnan()
    unknown = retention(torch.tensor([1.0]), torch.tensor([torch.nan]))
    assert compression_reward(unknown).tolist() == [0.0]


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
