"""Advantages against values computed by hand."""

from __future__ import annotations

import pytest
import torch

from marc_core.rl.advantage import (
    advantages,
    expected_gain,
    expected_reward,
    has_variance,
    moments,
    spread_of,
)
from marc_core.rl.rewards import gated_rewards


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


@pytest.mark.parametrize("scale", ["group", "none", "batch"])
def test_answers_that_do_not_exist_change_nothing(scale):
    ragged = torch.tensor([[1.0, 0.0, 9.0, 9.0], [2.0, 0.0, 0.0, 0.5]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    found = advantages(ragged, scale=scale, mask_QG=mask, epsilon=0.0)
    rewards = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 0.5])
    std = {"none": [1.0, 1.0], "group": [rewards[:2].std(), rewards[2:].std()],
           "batch": [rewards.std()] * 2}[scale]  # fmt: skip
    torch.testing.assert_close(found[0], torch.tensor([0.5, -0.5, 0.0, 0.0]) / std[0])
    torch.testing.assert_close(found[1], (rewards[2:] - 0.625) / std[1])
    assert has_variance(torch.tensor([[1.0, 9.0]]), torch.tensor([[True, False]])).tolist() == [
        False
    ]


def test_workers_add_up_to_the_spread_of_all_rewards():
    torch.manual_seed(0)
    reward = torch.rand(6, 4)
    mask = torch.rand(6, 4) > 0.2
    parts = sum(moments(reward[i : i + 2], mask[i : i + 2]) for i in (0, 2, 4))
    assert spread_of(parts) == pytest.approx(float(reward[mask].std()), rel=1e-6)
    assert spread_of(moments(reward[:1, :1], torch.ones(1, 1))) == 0.0


def test_the_expectation_over_options_has_the_policy_gradient():
    scores = torch.tensor([[0.3, -0.2, 0.5, 9.0]], requires_grad=True)
    reward = torch.tensor([[0.0, 1.0, 0.0, 5.0]])
    mask = torch.tensor([[True, True, True, False]])
    expected = expected_reward(scores.log_softmax(-1), reward, mask_QO=mask)
    p = scores[0, :3].detach().softmax(-1)
    torch.testing.assert_close(expected, p[1][None])
    expected.sum().backward()
    torch.testing.assert_close(scores.grad[0, :3], p * (reward[0, :3] - p[1]))
    assert scores.grad[0, 3].abs() < 1e-6


@pytest.mark.parametrize("scale", ["none", "group"])
def test_the_expected_gain_is_what_samples_tend_to(scale):
    """200,000 samples of the policy gradient against the exact one."""
    generator = torch.manual_seed(0)
    reward = torch.tensor([0.0, 1.4, 0.3])
    scores = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    expected_gain(scores.log_softmax(-1), reward, scale=scale).backward()
    exact, scores.grad = scores.grad, None
    drawn = torch.multinomial(scores.detach().softmax(-1), 200_000, True, generator=generator)
    weights = advantages(reward[drawn][None], scale=scale)[0]
    (weights * scores.log_softmax(-1)[drawn]).mean().backward()
    torch.testing.assert_close(scores.grad, exact, rtol=0.02, atol=0.005)
