"""A batch's rewards by hand, and what is computed of a group."""

from __future__ import annotations

import math

import pytest
import torch

from marc_core.errors import TrainingError
from marc_core.models.divergence import TokenDistribution
from marc_core.models.engine import Completion, SamplingRecord
from marc_core.rl.config import LossConfig, RewardConfig
from marc_core.rl.group import Group, make_group, plan_of, rewards_of, target_of, teaches
from marc_core.rl.judging import Verdict

CHOICES = ((5, 2), (6, 2), (7, 8, 2))
RECORD = SamplingRecord(temperature=1.0, suppressed_ids=(), choice_ids=CHOICES)


def group(scores, *, a_full=None, is_image=False, bonus=None, completions=(), **more) -> Group:
    verdict = Verdict(
        scores=tuple(scores), right=tuple(s >= 0.5 for s in scores),
        bonus=tuple(bonus or [0.0] * len(scores)), a_full=a_full, choice_scores=(0.0, 1.0, 0.0),
    )  # fmt: skip
    return Group(
        id="q",
        evidence=None,
        record=RECORD,
        verdict=verdict,
        completions=completions,
        is_image=is_image,
        **more,
    )


def test_rewards_by_hand():
    groups = [
        group([1.0, 1.0, 0.0, 1.0], a_full=0.75, bonus=[0.0, 0.2, 0.2, 0.0]),
        group([1.0, 0.0], a_full=1.0),  # eta = 0.5, below tau
        group([1.0, 0.0], a_full=0.0),  # nothing to retain
        group([1.0, 0.0], a_full=0.5, is_image=True),
        group([0.6, 0.2], a_full=0.4),  # graded: eta = 1
        group([1.0], a_full=None),
        group([]),
    ]
    found = rewards_of(groups, RewardConfig(alpha=2.0, tau=0.6))
    rewards = [
        [1.8, 2.0, 0.2, 1.8], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.6 + 0.8, 0.2], [1.0], []
    ]  # fmt: skip
    for row, mask, expected in zip(found.reward_QG, found.mask_QG, rewards, strict=True):
        assert row[mask].tolist() == pytest.approx(expected)
    etas = found.eta_Q.tolist()
    assert etas[:2] == pytest.approx([1.0, 0.5])
    assert etas[4] == pytest.approx(1.0)
    assert all(math.isnan(x) for x in [*etas[2:4], *etas[5:]])
    assert found.a_comp_Q[-1].isnan()
    assert found.r_c_Q.tolist() == pytest.approx([0.8, 0, 0, 0, 0.8, 0, 0])


def test_what_teaches_something():
    config = RewardConfig()
    groups = [group([1.0, 0.0]), group([1.0, 1.0]), group([0.0, 0.0], bonus=[0.0, 0.1]), group([])]
    assert teaches(groups, config) == [True, False, True, False]


def plan(loss: LossConfig, *, differs=True, **more):
    completions = ((6, 2), (5, 2), (6, 2))
    return plan_of(group([1.0, 0.0, 1.0], completions=completions, **more), loss, differs=differs)


def test_equal_answers_are_computed_once():
    found = plan(LossConfig())
    assert found.drawn.completions == [(6, 2), (5, 2)]
    assert found.answers == (0, 1, 0)
    assert (found.choices, found.target) == ((), None)


def test_nothing_is_computed_where_nothing_is_learned():
    plain = LossConfig(kl=0.0)
    assert plan(plain, differs=False) is None
    assert plan(LossConfig(kl=0.1), differs=False).answers == (0, 1, 0)
    assert plan(LossConfig(kl=0.1, policy_weight=0.0, supervised_weight=1.0)).answers == (0, 1, 0)
    assert plan(LossConfig(kl=0.0, policy_weight=0.0, supervised_weight=1.0)) is None


def test_options_and_the_right_answer_share_sequences_with_the_answers():
    loss = LossConfig(kl=0.0, supervised_weight=1.0)
    assert plan(loss, target=CHOICES[2]).drawn.completions == [(6, 2), (5, 2), (7, 8, 2)]
    assert plan(loss, target=CHOICES[2], differs=False).drawn.completions == [(7, 8, 2)]
    exact = plan(LossConfig(kl=0.0, expectation=True, supervised_weight=1.0), target=CHOICES[1])
    assert exact.drawn.completions == list(CHOICES)
    assert (exact.answers, exact.choices, exact.target) == ((), (0, 1, 2), 1)


def test_a_teacher_belongs_to_the_answers_only():
    teachers = tuple(
        TokenDistribution(ids_CK=torch.tensor([[i]] * 2), log_probs_CK=torch.zeros(2, 1))
        for i in range(3)
    )
    loss = LossConfig(kl=0.0, distillation_weight=1.0, supervised_weight=1.0)
    found = plan(loss, target=CHOICES[2], teacher=teachers)
    assert [t and int(t.ids_CK[0, 0]) for t in found.drawn.teacher] == [2, 1, None]


def completion(**changes) -> Completion:
    values = {
        "request_id": "q", "index": 0, "text": "", "token_ids": (5, 2), "log_probs": (-1.0, 0.0),
        "finish_reason": "stop", "weights_version": 4, "prompt_tokens": 1, "visual_tokens": 0,
        "sampling": RECORD,
    }  # fmt: skip
    return Completion(**values | changes)


def test_a_group_is_made_of_finished_answers():
    verdict = Verdict(scores=(1.0, 0.0), right=(True, False), bonus=(0.0, 0.0))
    done = [completion(), completion(finish_reason="length", weights_version=3)]
    made = make_group("q", None, done, verdict)
    assert (made.truncated, made.version) == ((False, True), 3)
    other = SamplingRecord(temperature=0.5, suppressed_ids=())
    for wrong in ({"finish_reason": "abort"}, {"sampling": other}):
        with pytest.raises(TrainingError, match="'q' must be finished and drawn in one way"):
            make_group("q", None, [completion(), completion(**wrong)], verdict)


def test_the_right_option_is_the_target():
    right = Verdict(scores=(), right=(), bonus=(), choice_scores=(0.0, 0.0, 1.0))
    assert target_of(right, RECORD) == (7, 8, 2)
    none = Verdict(scores=(), right=(), bonus=(), choice_scores=(0.0, 0.5, 0.0))
    assert target_of(none, RECORD) == ()
    free = Verdict(scores=(), right=(), bonus=())
    assert target_of(free, RECORD) == ()
