"""A question with the student's answers and their worth: what an optimiser step is made of.

    completions --judge--> Verdict --make_group--> Group --plan_of--> what the policy computes once

A group of G answers holds few different ones where the answer is decoded among options, and the
right answer and the options themselves may be asked for as well: each different sequence is
computed once and used as often as it occurs.

Letters: Q questions, G answers to a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from marc_core.errors import TrainingError
from marc_core.evidence import Evidence
from marc_core.models.divergence import TokenDistribution
from marc_core.models.engine import Completion, SamplingRecord
from marc_core.models.policy import Drawn
from marc_core.rl.advantage import has_variance
from marc_core.rl.config import LossConfig, RewardConfig
from marc_core.rl.judging import Verdict
from marc_core.rl.rewards import accuracies, compression_reward, gated_rewards, retention


@dataclass(frozen=True, kw_only=True)
class Group:
    """One question, the student's answers, and what they are worth.

    evidence, record: what the student read and how it answered. completions: token ids with the
    end token; none where the question is learned from its right answer or its options alone.
    drawn_log_probs: of each token, as the engine recorded them. truncated: whether an answer
    reached its longest length. version: of the weights that drew. target: the right answer's ids,
    where it is known. teacher: the full-token teacher's distributions over each completion, and
    teacher_log_probs its log-probabilities of the tokens, where they are asked for.
    """

    id: str
    evidence: Evidence
    record: SamplingRecord
    verdict: Verdict
    completions: tuple[tuple[int, ...], ...] = ()
    drawn_log_probs: tuple[tuple[float, ...], ...] = ()
    truncated: tuple[bool, ...] = ()
    version: int = 0
    is_image: bool = False
    target: tuple[int, ...] = ()
    teacher: tuple[TokenDistribution, ...] = ()
    teacher_log_probs: tuple[tuple[float, ...], ...] = ()


def make_group(
    id: str,
    evidence: Evidence,
    completions: Sequence[Completion],
    verdict: Verdict,
    *,
    is_image: bool = False,
    target: Sequence[int] = (),
) -> Group:
    """Return the group of a question's finished completions, none of them aborted.

    Raises TrainingError for completions that were drawn under different settings.
    """
    record = completions[0].sampling
    if any(c.sampling != record or c.finish_reason == "abort" for c in completions):
        raise TrainingError(
            f"All answers to '{id}' must be finished and drawn in one way. Got aborted answers, or "
            "different temperatures or choices. Ask the question again."
        )
    assert len(verdict.scores) == len(completions), "one score an answer"
    return Group(
        id=id,
        evidence=evidence,
        record=record,
        verdict=verdict,
        completions=tuple(c.token_ids for c in completions),
        drawn_log_probs=tuple(c.log_probs for c in completions),
        truncated=tuple(c.finish_reason == "length" for c in completions),
        version=min(c.weights_version for c in completions),
        is_image=is_image,
        target=tuple(target),
    )


def target_of(verdict: Verdict, record: SamplingRecord) -> tuple[int, ...]:
    """Return the ids of the best option of a question that is decoded among options; none where
    no option is fully right, or the answer is free (`models.sampling.answer_ids` then)."""
    if not verdict.choice_scores or max(verdict.choice_scores) < 1.0:
        return ()
    return record.choice_ids[verdict.choice_scores.index(max(verdict.choice_scores))]


@dataclass(frozen=True, slots=True)
class Rewards:
    """A batch's rewards and what they are made of.

    reward_QG, mask_QG: rewards of the answers that exist. a_comp_Q: the student's accuracy, NaN
    without answers. a_full_Q: the teacher's, NaN where it was not asked. eta_Q: retention, NaN
    where a_full is 0 or unknown, or for images. r_c_Q: the reward for it.
    """

    reward_QG: torch.Tensor
    mask_QG: torch.Tensor
    a_comp_Q: torch.Tensor
    a_full_Q: torch.Tensor
    eta_Q: torch.Tensor
    r_c_Q: torch.Tensor


def rewards_of(groups: Sequence[Group], config: RewardConfig) -> Rewards:
    """Return R_i = accuracy + bonus + 1[right] * r_c of every answer."""
    score_QG, mask_QG = _table([g.verdict.scores for g in groups])
    right_QG, _ = _table([g.verdict.right for g in groups])
    bonus_QG, _ = _table([g.verdict.bonus for g in groups])
    a_comp_Q = accuracies(score_QG, mask_QG).masked_fill(~mask_QG.any(-1), torch.nan)
    asked = [None if g.is_image else g.verdict.a_full for g in groups]
    a_full_Q = torch.tensor([torch.nan if a_full is None else a_full for a_full in asked])
    eta_Q = retention(a_comp_Q, a_full_Q)
    r_c_Q = compression_reward(eta_Q, alpha=config.alpha, tau=config.tau)
    reward_QG = gated_rewards(score_QG + bonus_QG, right_QG, r_c_Q)
    return Rewards(reward_QG, mask_QG, a_comp_Q, a_full_Q, eta_Q, r_c_Q)


def teaches(groups: Sequence[Group], config: RewardConfig) -> list[bool]:
    """Return of each group whether its answers' rewards differ (dynamic sampling keeps these)."""
    found = rewards_of(groups, config)
    return [bool(x) for x in has_variance(found.reward_QG, found.mask_QG)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the policy computes for a group, each different sequence once.

    drawn: the sequences. answers: the place among them of each answer; none where answers do not
    matter. choices: of each option (exact expectation). target: of the right answer, or None.
    """

    group: Group
    drawn: Drawn
    answers: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()
    target: int | None = None


def is_exact(group: Group, config: LossConfig) -> bool:
    """Return whether the group's policy gradient is taken over all options, not over samples."""
    known = len(group.verdict.choice_scores) == len(group.record.choice_ids)
    return bool(config.expectation and group.record.choice_ids and known)


def plan_of(group: Group, config: LossConfig, *, differs: bool) -> Plan | None:
    """Return what must be computed for a group, None where nothing would be learned from it.

    differs: whether its answers' advantages do.
    """
    places: dict[tuple[int, ...], int] = {}

    def place(sequence: Sequence[int]) -> int:
        return places.setdefault(tuple(sequence), len(places))

    exact = is_exact(group, config)
    policy = not exact and ((config.policy_weight > 0 and differs) or config.kl > 0)
    answers: tuple[int, ...] = ()
    if policy or config.distillation_weight:
        answers = tuple(map(place, group.completions))
    teachers: dict[int, TokenDistribution] = {}
    if answers and config.distillation_weight and config.distillation == "distribution":
        teachers = dict(zip(answers, group.teacher, strict=True))
    choices = tuple(map(place, group.record.choice_ids)) if exact else ()
    target = place(group.target) if config.supervised_weight and group.target else None
    if not places:
        return None
    teacher = [teachers.get(i) for i in range(len(places))] if teachers else ()
    drawn = Drawn(
        evidence=group.evidence, completions=list(places), record=group.record, teacher=teacher
    )
    return Plan(group, drawn, answers, choices, target)


def _table(rows: Sequence[Sequence[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (values (Q, G), mask (Q, G)) of ragged rows."""
    values = torch.zeros(len(rows), max([1, *map(len, rows)]))
    mask = torch.zeros_like(values, dtype=torch.bool)
    for i, row in enumerate(rows):
        values[i, : len(row)] = torch.tensor([float(x) for x in row])
        mask[i, : len(row)] = True
    return values, mask
