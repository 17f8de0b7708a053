"""The loss of a part of a batch: policy gradient, its anchor, and the terms beside it.

    plans + what the policy scored -> answers       -> clipped objective, KL anchor
                                                    -> divergence from the teacher
                                   -> options       -> expected reward (exact groups)
                                   -> right answers -> - log p

Every question of a batch weighs the same: a part's terms are divided by counts of the whole batch
on all workers (`Counts`), so that parts and workers add up to what one pass would give.

Letters: B answers of the part, C tokens of an answer, G answers to one question, O options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch.nn.utils.rnn import pad_sequence

from marc_core.models.policy import Scored
from marc_core.rl.advantage import expected_gain
from marc_core.rl.config import LossConfig, RewardConfig
from marc_core.rl.group import Group, Plan, is_exact
from marc_core.rl.loss import (
    clipped_loss,
    importance_weights,
    teacher_advantages,
    token_weights,
)
from marc_core.rl.rewards import compression_reward, retention
from marc_core.rl.tally import Tally

WATCHED = (
    "kl", "clip_low", "clip_high", "ratio", "sampler_gap", "stale_weight", "divergence",
    "supervised", "expected_score",
)  # fmt: skip
"""What the objective adds to a step's tally."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What means run over, of the whole batch on all workers.

    questions: all of them. sampled: those whose policy gradient is sampled, with their answers and
    the tokens that count; taught: those with the teacher's distributions, likewise.
    """

    questions: float
    sampled: float
    sampled_answers: float
    sampled_tokens: float
    taught: float
    taught_answers: float
    taught_tokens: float

    @classmethod
    def of(cls, groups: Sequence[Group], config: LossConfig) -> torch.Tensor:
        """Return this worker's counts for `Peers.sum`; then `Counts(*total.tolist())`."""
        values: list[int] = [len(groups)]
        sampled = [g for g in groups if g.completions and not is_exact(g, config)]
        for part in (sampled, [g for g in groups if g.teacher]):
            tokens = sum(
                len(ids)
                for g in part
                for ids, out in zip(g.completions, _left_out(g, config), strict=True)
                if not out
            )
            values += [len(part), sum(len(g.completions) for g in part), tokens]
        assert len(values) == len(fields(cls)), "one value a field"
        return torch.tensor(values, dtype=torch.float64)

    def of_sampled(self, config: LossConfig) -> float:
        """Return what the sampled answers' weighted sum is divided by."""
        units = self.sampled_tokens if config.average == "token" else self.sampled_answers
        return max(units, 1) * self.questions / max(self.sampled, 1)

    def of_taught(self, config: LossConfig) -> float:
        """Return what the divergences' weighted sum is divided by."""
        units = self.taught_tokens if config.average == "token" else self.taught_answers
        return max(units, 1) * self.questions / max(self.taught, 1)


@dataclass(slots=True)
class Part:
    """A micro-batch: questions that are computed together.

    plans, advantages: of its questions; (G,) each. old: log-probabilities under the weights that
    the step started with, as its first epoch finds them. reference: under the reference.
    """

    plans: list[Plan]
    advantages: list[torch.Tensor]
    old: list[torch.Tensor] | None = None
    reference: list[torch.Tensor] | None = None

    def by_plan(self, values: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        """Return a list per plan of one per sequence of the part."""
        rest = iter(values)
        return [[next(rest) for _ in plan.drawn.completions] for plan in self.plans]


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a step's parts.

    max_tokens: of an answer (average "constant"). version: of the weights that are trained;
    answers that older ones have drawn are weighted. tally: takes what is watched.
    """

    loss: LossConfig
    reward: RewardConfig
    counts: Counts
    max_tokens: int
    version: int
    tally: Tally

    def __call__(self, part: Part, scored: Scored) -> torch.Tensor:
        """Return the part's loss, with gradients."""
        if part.old is None:
            part.old = [x.detach() for x in scored.log_probs]
        total = scored.log_probs[0].sum() * 0.0
        if any(plan.answers for plan in part.plans):
            total = total + self._sampled(part, scored) + self._taught(part, scored)
        own = zip(part.plans, part.by_plan(scored.log_probs), strict=True)
        for at, (plan, log_probs) in enumerate(own):
            if plan.choices:
                anchor = None if part.reference is None else part.by_plan(part.reference)[at]
                total = total + self._exact(plan, log_probs, anchor)
            if plan.target is not None:
                total = total + self._supervised(log_probs[plan.target])
        return total

    def _sampled(self, part: Part, scored: Scored) -> torch.Tensor:
        """The clipped objective over the answers of groups that are not exact."""
        rows = [i for i, plan in enumerate(part.plans) if plan.answers and not plan.choices]
        if not rows:
            return scored.log_probs[0].new_zeros(())
        plans = [part.plans[i] for i in rows]
        assert part.old is not None, "the first epoch finds them"
        new_BC, there_BC = _padded(_picked(part, scored.log_probs, rows))
        old_BC, _ = _padded(_picked(part, part.old, rows))
        mask_BC = there_BC & ~self._left_out(plans, new_BC)[:, None]
        weights_B = self._stale(plans, old_BC, there_BC)
        advantages = torch.cat([part.advantages[i] for i in rows]).to(new_BC)
        advantages = self._with_teacher(
            plans, advantages * self.loss.policy_weight, old_BC, mask_BC
        )
        reference_BC = None
        if part.reference is not None:
            reference_BC, _ = _padded(_picked(part, part.reference, rows))
        terms = clipped_loss(
            new_BC, old_BC, advantages, mask_BC,
            clip_low=self.loss.clip_low, clip_high=self.loss.clip_high, ratio=self.loss.ratio,
            average=self.loss.average, max_tokens=self.max_tokens,
            reference_log_probs_BC=reference_BC, beta=self.loss.kl,
            correct_kl=self.loss.kl_corrected, weights_B=weights_B,
            normaliser=self.counts.of_sampled(self.loss),
        )  # fmt: skip
        names = ("kl", "clip_low", "clip_high", "ratio")
        for name, value in zip(names, terms.sums[:4].tolist(), strict=True):
            self.tally.add(name, value, terms.sums[4])
        return terms.loss

    def _with_teacher(
        self,
        plans: Sequence[Plan],
        advantages_B: torch.Tensor,
        old_BC: torch.Tensor,
        mask_BC: torch.Tensor,
    ) -> torch.Tensor:
        """Return advantages with the teacher's log-probabilities as rewards of single tokens."""
        if not (self.loss.distillation_weight and self.loss.distillation == "log_probs"):
            return advantages_B
        given = [torch.tensor(x) for plan in plans for x in plan.group.teacher_log_probs]
        assert len(given) == len(old_BC), "the teacher scores every answer"
        own_BC = teacher_advantages(old_BC, _padded(given)[0].to(old_BC), mask_BC)
        self.tally.add("divergence", -own_BC.sum(), mask_BC.sum())
        return advantages_B[:, None] + self.loss.distillation_weight * own_BC

    def _stale(
        self, plans: Sequence[Plan], old_BC: torch.Tensor, there_BC: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the weights of answers, 1 for those that the trained weights have drawn."""
        drawn = [torch.tensor(x) for plan in plans for x in plan.group.drawn_log_probs]
        if not drawn:
            return None
        drawn_BC = _padded(drawn)[0].to(old_BC)
        fresh = [p.group.version >= self.version for p in plans for _ in p.answers]
        fresh_B = torch.tensor(fresh, device=old_BC.device)
        gap_BC = (old_BC - drawn_BC).abs() * there_BC * fresh_B[:, None]
        self.tally.add("sampler_gap", gap_BC.sum(), (there_BC * fresh_B[:, None]).sum())
        if fresh_B.all():
            return None
        most = self.loss.most_stale_weight
        weights_B = importance_weights(old_BC, drawn_BC, there_BC, most=most)
        self.tally.add("stale_weight", weights_B[~fresh_B].sum(), (~fresh_B).sum())
        return weights_B.masked_fill(fresh_B, 1.0)

    def _taught(self, part: Part, scored: Scored) -> torch.Tensor:
        """The divergence from the teacher's distributions on the student's own answers."""
        rows = [i for i, plan in enumerate(part.plans) if plan.drawn.teacher]
        if not rows:
            return scored.log_probs[0].new_zeros(())
        apart_BC, there_BC = _padded(_picked(part, scored.divergences, rows))
        mask_BC = there_BC & ~self._left_out([part.plans[i] for i in rows], apart_BC)[:, None]
        self.tally.add("divergence", (apart_BC.detach() * mask_BC).sum(), mask_BC.sum())
        weight_BC = token_weights(mask_BC, self.loss.average, self.max_tokens)
        weighted = (apart_BC * weight_BC).sum() / self.counts.of_taught(self.loss)
        return self.loss.distillation_weight * weighted

    def _exact(
        self, plan: Plan, log_probs: Sequence[torch.Tensor], anchor: Sequence[torch.Tensor] | None
    ) -> torch.Tensor:
        """Minus one question's expected reward, plus its exact divergence from the reference."""
        log_probs_O = torch.stack([log_probs[i].sum() for i in plan.choices])
        score_O = log_probs_O.new_tensor(plan.group.verdict.choice_scores)
        p_O = log_probs_O.detach().softmax(-1)
        a_comp = (p_O * score_O).sum()
        self.tally.add("expected_score", a_comp, 1)
        right_O = (score_O >= self.reward.right_from).to(score_O)
        reward_O = score_O + right_O * self._r_c(plan.group, a_comp)
        loss = -self.loss.policy_weight * expected_gain(
            log_probs_O, reward_O, scale=self.loss.advantage
        )
        if anchor is not None:
            reference_O = torch.stack([anchor[i].sum() for i in plan.choices])
            kl = (log_probs_O.exp() * (log_probs_O - reference_O)).sum()
            self.tally.add("kl", kl.detach(), 1)
            loss = loss + self.loss.kl * kl
        return loss / self.counts.questions

    def _r_c(self, group: Group, a_comp: torch.Tensor) -> torch.Tensor:
        if group.is_image or group.verdict.a_full is None:
            return torch.zeros_like(a_comp)
        eta = retention(a_comp[None], a_comp.new_tensor([group.verdict.a_full]))
        return compression_reward(eta, alpha=self.reward.alpha, tau=self.reward.tau)[0]

    def _supervised(self, log_probs_C: torch.Tensor) -> torch.Tensor:
        surprise = -log_probs_C.sum()
        self.tally.add("supervised", surprise.detach(), 1)
        return self.loss.supervised_weight * surprise / self.counts.questions

    def _left_out(self, plans: Sequence[Plan], like: torch.Tensor) -> torch.Tensor:
        """Return (B,) whether an answer does not count because it was truncated."""
        out = [x for plan in plans for x in _left_out(plan.group, self.loss)]
        return torch.tensor(out, device=like.device)


def _left_out(group: Group, config: LossConfig) -> Sequence[bool]:
    if config.mask_truncated and group.truncated:
        return group.truncated
    return [False] * len(group.completions)


def _picked(part: Part, values: list[torch.Tensor], rows: Sequence[int]) -> list[torch.Tensor]:
    """Return one tensor per answer of the plans `rows`, as often as the answer was given."""
    own = part.by_plan(values)
    return [own[i][place] for i in rows for place in part.plans[i].answers]


def _padded(values: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (values (B, C) padded with 0, mask (B, C) of what is there)."""
    values_BC = pad_sequence(list(values), batch_first=True)
    sizes_B1 = torch.tensor([[len(x)] for x in values], device=values_BC.device)
    columns_C = torch.arange(values_BC.shape[1], device=values_BC.device)
    return values_BC, columns_C < sizes_B1
