"""Settings that contradict each other are refused; the defaults say what they are."""

from __future__ import annotations

import pytest

from marc_core.configure import load_config
from marc_core.errors import ConfigError
from marc_core.rl.config import CGrpoConfig


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.policy_weight=0"], "nothing would be learned"),
        (["loss.expectation=true", "loss.advantage=batch"], "needs samples"),
        (["loss.expectation=true", "loss.distillation=log_probs", "loss.distillation_weight=1"],
         "'distribution'"),
        (["reward.least_tokens=9", "reward.most_tokens=8"], "most_tokens must be at least"),
        (["rollout.answers=1"], "one answer has no advantage over its group"),
        (["reward.alpha=-1"], "reward.alpha must be at least 0"),
        (["loss.clip_low=1.5"], "loss.clip_low must be above 0 and at most 1"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CGrpoConfig, overrides=overrides)


def test_budgets_are_a_tuple():
    config = load_config(CGrpoConfig, overrides=["rollout.budgets=[3,5,9]", "loss.policy_weight=0",
                                                 "loss.supervised_weight=1"])  # fmt: skip
    assert config.rollout.budgets == (3, 5, 9)
