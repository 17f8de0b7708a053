"""Settings of C-GRPO. Where the paper gives a value, its place is named; all else is our choice.

The defaults are the paper's method; `docs/paper.md` says where they differ from it and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from marc_core.bounds import number
from marc_core.errors import ConfigError
from marc_core.rl.advantage import Scale
from marc_core.rl.loss import Average, Ratio
from marc_core.scoring.answers import Scoring
from marc_core.training.config import TrainConfig

Unlabelled = Literal["skip", "majority", "agreement"]
Distillation = Literal["distribution", "log_probs"]
Optimizer = Literal["muon", "adamw"]


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """What an answer is worth: R_i = accuracy + format + length + 1[right] * r_c."""

    alpha: float = number(1.0, least=0)
    """Weight of the retention reward r_c = alpha * max(0, eta - tau); 0 is GRPO. The paper gives no
    value."""
    tau: float = number(0.6, least=0)
    """Retention from which on it is rewarded (paper, table 4: 0.4 and 0.8 are worse)."""
    scoring: Scoring = "official"
    """How answers are read and scored: as the benchmarks' authors do, or as Video-R1's reward."""
    right_from: float = number(0.5, above=0, most=1)
    """Score from which on an answer counts as right, where scores are graded (free text by ROUGE,
    OCR, regression); letters and numbers score 0 or 1."""
    format_weight: float = number(0.0, least=0)
    """Reward of an answer in <think> and <answer> tags (Video-R1: 1)."""
    length_weight: float = number(0.0, least=0)
    """Reward of a right answer whose length is inside the bounds below (Video-R1: 0.2)."""
    least_tokens: int = number(320, least=0)
    """Lower bound of the length that is rewarded (Video-R1)."""
    most_tokens: int = number(512, least=1)
    """Upper bound of the length that is rewarded (Video-R1)."""
    unlabelled: Unlabelled = "majority"
    """How answers are judged where no right one is known. majority: against the teacher's most
    common answer. agreement: by the share of the teacher's answers that they agree with. skip:
    such questions are left out."""
    least_agreement: float = number(0.5, least=0, most=1)
    """Unlabelled questions on which the teacher's answers agree less than this are left out."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        if self.most_tokens < self.least_tokens:
            raise ConfigError(
                f"most_tokens must be at least least_tokens. Got {self.most_tokens} < "
                f"{self.least_tokens}."
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised: the clipped objective, its KL anchor, and the terms beside it."""

    policy_weight: float = number(1.0, least=0)
    """Weight of the policy gradient; 0 trains on the other terms alone."""
    advantage: Scale = "none"
    """What R_i - mean R is divided by: the group's standard deviation (the paper, GRPO), the
    batch's, or nothing (Dr. GRPO). Not the paper's, because with a binary reward division by the
    group's cancels r_c."""
    ratio: Ratio = "token"
    """Importance ratios per token (the paper, GRPO), or one for a whole answer (GSPO)."""
    average: Average = "sequence"
    """How tokens are averaged: within each answer, then over answers (GRPO); over all tokens
    (DAPO); by a constant number of tokens an answer, rollout.max_tokens (Dr. GRPO)."""
    clip_low: float = number(0.2, above=0, most=1)
    """Ratios below 1 - clip_low gain nothing (GRPO: 0.2; GSPO works with about 0.0003)."""
    clip_high: float = number(0.2, above=0)
    """Ratios above 1 + clip_high gain nothing (GRPO: 0.2; DAPO: 0.28)."""
    kl: float = number(0.04, least=0)
    """Weight of the KL divergence from the reference, k3 estimate (Video-R1: 0.04; the paper gives
    no value); 0 needs no reference."""
    kl_corrected: bool = False
    """Multiply the estimate by the importance ratio, which makes its gradient unbiased (as TRL does
    by default); False is GRPO's own form."""
    epochs: int = number(1, least=1)
    """Optimiser steps on the same answers; with 1, ratios are 1 and nothing is clipped."""
    mask_truncated: bool = False
    """Leave answers that reached rollout.max_tokens out of the loss (DAPO); they still count for
    their group's mean."""
    most_stale_weight: float = number(2.0, least=1)
    """Largest importance weight of an answer that older weights have drawn (truncated importance
    sampling); such answers come from asynchronous rollouts only."""
    expectation: bool = False
    """Where the answer is one of the question's options, use the exact expectation of the reward
    over all of them in place of samples: the policy gradient without variance. It sums over an
    answer's tokens, where `average` takes their mean."""
    distillation_weight: float = number(0.0, least=0)
    """Weight of the divergence from the full-token teacher on the student's own answers."""
    distillation: Distillation = "distribution"
    """distribution: exact divergence at every token. log_probs: the teacher's log-probability of
    the tokens drawn, as a reward of each token; needs less from the teacher."""
    direction: Literal["reverse", "forward"] = "reverse"
    """KL(student || teacher), or KL(teacher || student); for "distribution"."""
    teacher_tokens: int = number(64, least=1)
    """Most probable tokens that the teacher names at each place; what is left counts as one."""
    supervised_weight: float = number(0.0, least=0)
    """Weight of - log p(right answer) on compressed input, where it is known."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        if not (self.policy_weight or self.distillation_weight or self.supervised_weight):
            raise ConfigError(
                "One of policy_weight, distillation_weight and supervised_weight must be above 0. "
                "Got 0 for all of them: nothing would be learned."
            )
        if self.expectation and self.advantage == "batch":
            raise ConfigError(
                "expectation must go with advantage 'group' or 'none'. Got 'batch', which needs "
                "samples."
            )
        if self.expectation and self.distillation_weight and self.distillation == "log_probs":
            raise ConfigError(
                "expectation must go with distillation 'distribution'. Got 'log_probs', which "
                "rewards the tokens of samples."
            )


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """What is asked, and how answers are drawn."""

    questions: int = number(32, least=1)
    """Questions of a step, over all workers."""
    answers: int = number(8, least=2, why="one answer has no advantage over its group")
    """Student's answers to a question, G (paper, section 4: 8)."""
    teacher_answers: int = number(8, least=1)
    """Full-token teacher's answers to a question (paper, section 4: as many)."""
    temperature: float = number(1.0, above=0)
    """Of both; the loss is taken under the same (Video-R1: 1)."""
    max_tokens: int = number(768, least=1)
    """Longest answer (Video-R1: 768)."""
    budgets: tuple[int, ...] = number((0,), least=0)
    """Visual tokens that the student reads; several are drawn with equal chance, question by
    question; 0 means one frame's."""
    dynamic_sampling: bool = False
    """Replace questions whose answers are all worth the same by others until the step has
    `questions` that teach something (DAPO)."""
    refills: int = number(3, least=0)
    """Most rounds of replacing, so that a student that knows everything does not wait for ever."""
    versions_behind: int = number(0, least=0)
    """Steps that the weights which draw answers may be behind; above 0 rollouts and updates
    overlap."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "budgets", tuple(self.budgets))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights are changed."""

    kind: Optimizer = "muon"
    """muon: Muon for hidden matrices, AdamW for the rest (docs/tiny.md). adamw: AdamW for all;
    for LoRA and sharded weights."""
    learning_rate: float = number(1e-4, above=0)
    """Peak of AdamW's rate; a linear warm-up over the first 5 % of the steps leads to it."""
    final_rate: float = number(1.0, least=0, most=1)
    """Rate at the end as a share of the peak, reached by a cosine; 1 keeps the rate."""
    muon_scale: float = number(1.5, above=0)
    """Muon's rate as a multiple of AdamW's."""
    micro_tokens: int = number(16_384, least=1)
    """Tokens of a forward and backward pass, padding included; gradients of several are added up.
    Changes memory and speed, not results."""
    autocast: bool = False
    """Compute in bfloat16, with weights and their updates as they are (float32)."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """When training stops by itself (`marc_core.rl.guard`)."""

    gradient_factor: float = number(100.0, above=1)
    """A gradient's norm is exploding above this multiple of its median over the last 100 steps."""
    loss_factor: float = number(100.0, above=1)
    """Likewise the loss, by its size."""
    exploding_steps: int = number(3, least=1)
    """Steps in a row that may explode; the next one stops training."""
    least_entropy: float = number(1e-4, least=0)
    """Entropy of the answers, nats a token, below which the student has collapsed; 0 turns it
    off."""
    collapsed_steps: int = number(20, least=1)
    """Steps in a row that may be collapsed; the next one stops training."""


@dataclass(frozen=True, kw_only=True)
class CGrpoConfig(TrainConfig):
    """Training of a student on compressed input against its full-token teacher."""

    steps: int = number(600, least=1)
    """Steps of the run."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """What an answer is worth."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """What is asked, and how answers are drawn."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights are changed."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """When training stops by itself."""
