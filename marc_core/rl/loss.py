"""The clipped objective with a KL anchor (paper, section 3.3), and its relatives.

    ratio = exp(log pi - log pi_old)                        per token, or per sequence (GSPO)
    surrogate = min(ratio * A, clip(ratio, 1 - eps, 1 + eps_high) * A)
    loss = - mean(surrogate - beta * KL(pi || reference))

`log pi_old` are recomputed by the trainer under the setting that the rollouts recorded, so that a
difference between two engines is no importance weight. How tokens are averaged is explicit:

    sequence   mean over each answer's tokens, then over answers (GRPO)
    token      mean over all tokens of the batch (DAPO; TRL's "bnpo" within a micro-batch)
    constant   sum over tokens / (answers * max_tokens): no length bias (Dr. GRPO)

A batch may be computed in parts, on several workers: each part then divides by the whole batch's
`units`, so that the parts' losses and gradients add up to those of the whole.

Letters: B answers, C tokens of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Ratio = Literal["token", "sequence"]
Average = Literal["sequence", "token", "constant"]


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss with its gradient, and what is watched, without.

    sums: (5,) over the tokens that count: k3 estimates, tokens held at the lower and at the upper
    bound of the clip, importance ratios, tokens. Sums of a batch's parts add up.
    """

    loss: torch.Tensor
    sums: torch.Tensor

    @property
    def kl(self) -> float:
        """Mean k3 estimate a token."""
        return self._mean(0)

    @property
    def clip_fraction(self) -> float:
        """Share of tokens whose ratio was clipped."""
        return self._mean(1) + self._mean(2)

    @property
    def ratio(self) -> float:
        """Mean importance ratio."""
        return self._mean(3)

    def _mean(self, at: int) -> float:
        return float(self.sums[at] / self.sums[4].clamp_min(1))


def clipped_loss(
    log_probs_BC: torch.Tensor,
    old_log_probs_BC: torch.Tensor,
    advantages: torch.Tensor,
    mask_BC: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ratio: Ratio = "token",
    average: Average = "sequence",
    max_tokens: int | None = None,
    reference_log_probs_BC: torch.Tensor | None = None,
    beta: float = 0.0,
    correct_kl: bool = False,
    weights_B: torch.Tensor | None = None,
    normaliser: float | None = None,
) -> LossTerms:
    """Return the loss of a batch of answers.

    log_probs_BC: with gradients; old_log_probs_BC: of the policy that answered; both of the tokens
    drawn. advantages: (B,), or (B, C) where each token has its own. mask_BC: tokens that count (no
    padding; none of a truncated answer, if so wished). max_tokens: needed for average "constant".
    reference_log_probs_BC, beta: the KL anchor, k3 estimate (Schulman), none without. correct_kl:
    multiply the estimate by the ratio, whose gradient is then that of KL(pi || reference) without
    bias (DeepSeek-V3.2, arXiv 2512.02556). weights_B: truncated importance weights of answers drawn
    by older weights (asynchronous rollouts); the anchor is not weighted. normaliser: `units` of the
    batch that this is a part of; None: this is the whole. An answer without tokens adds nothing.
    """
    mask = mask_BC.to(log_probs_BC.dtype)
    advantages = advantages[:, None] if advantages.ndim == 1 else advantages
    ratio_BC = _ratios(log_probs_BC, old_log_probs_BC, mask, ratio)
    clipped_BC = ratio_BC.clamp(1 - clip_low, 1 + clip_high)
    gain_BC = torch.minimum(ratio_BC * advantages, clipped_BC * advantages)
    if weights_B is not None:
        gain_BC = gain_BC * weights_B[:, None]
    kl_BC = torch.zeros_like(gain_BC)
    if reference_log_probs_BC is not None:
        kl_BC = k3(log_probs_BC * mask, reference_log_probs_BC * mask)
        kl_BC = kl_BC * ratio_BC if correct_kl else kl_BC
    weight_BC = token_weights(mask_BC, average, max_tokens)
    whole = units(mask_BC, average) if normaliser is None else normaliser
    loss = -((gain_BC - beta * kl_BC) * weight_BC).sum() / max(whole, 1)
    with torch.no_grad():
        low = (ratio_BC < 1 - clip_low) & (advantages < 0)
        high = (ratio_BC > 1 + clip_high) & (advantages > 0)
        watched = (kl_BC, low, high, ratio_BC, torch.ones_like(mask))
        sums = torch.stack([(x * mask).sum() for x in watched])
    return LossTerms(loss=loss, sums=sums)


def token_weights(
    mask_BC: torch.Tensor, average: Average, max_tokens: int | None = None
) -> torch.Tensor:
    """Return (B, C) the weight of each token before division by `units`."""
    mask = mask_BC.float()
    if average == "token":
        return mask
    if average == "constant":
        assert max_tokens, "average 'constant' needs max_tokens"
        return mask / max_tokens
    return mask / mask.sum(-1, keepdim=True).clamp_min(1)


def units(mask_BC: torch.Tensor, average: Average) -> float:
    """Return what a batch's weighted sum is divided by: its tokens, or its answers."""
    return float(mask_BC.sum()) if average == "token" else float(len(mask_BC))


def k3(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """Return the k3 estimate of KL(pi || reference) per token: exp(d) - d - 1, d = ref - pi."""
    difference = reference_log_probs - log_probs
    return difference.exp() - difference - 1


def importance_weights(
    log_probs_BC: torch.Tensor,
    drawn_log_probs_BC: torch.Tensor,
    mask_BC: torch.Tensor,
    *,
    most: float,
) -> torch.Tensor:
    """Return (B,) min(pi(answer) / mu(answer), most), without gradients.

    For answers drawn by weights mu that are some versions old (truncated importance sampling).
    """
    with torch.no_grad():
        log_ratio_B = ((log_probs_BC - drawn_log_probs_BC) * mask_BC.float()).sum(-1)
        return log_ratio_B.exp().clamp_max(most)


def teacher_advantages(
    log_probs_BC: torch.Tensor, teacher_log_probs_BC: torch.Tensor, mask_BC: torch.Tensor
) -> torch.Tensor:
    """Return (B, C) log pi_teacher - log pi of the tokens drawn, without gradients.

    On-policy distillation by log-probabilities alone: as advantages of single tokens their policy
    gradient is that of the reverse KL at each token, estimated from the token drawn.
    """
    return ((teacher_log_probs_BC - log_probs_BC) * mask_BC).detach()


def _ratios(
    log_probs_BC: torch.Tensor, old_log_probs_BC: torch.Tensor, mask: torch.Tensor, ratio: Ratio
) -> torch.Tensor:
    log_ratio_BC = (log_probs_BC - old_log_probs_BC) * mask
    if ratio == "token":
        return log_ratio_BC.exp()
    # GSPO: the geometric mean of the tokens' ratios, whose gradient reaches every token alike.
    mean_B1 = log_ratio_BC.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp_min(1)
    return (log_probs_BC - log_probs_BC.detach() + mean_B1.detach()).exp()
