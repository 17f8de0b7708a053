"""The clipped objective with a KL anchor (paper, section 3.3), and its relatives.

    ratio = exp(log pi - log pi_old)                        per token, or per sequence (GSPO)
    surrogate = min(ratio * A, clip(ratio, 1 - eps, 1 + eps_high) * A)
    loss = - mean(surrogate - beta * KL(pi || reference))

`log pi_old` are recomputed by the trainer under the setting that the rollouts recorded, so that a
difference between two engines is no importance weight. How tokens are averaged is explicit:

    sequence   mean over each answer's tokens, then over answers (GRPO)
    token      mean over all tokens of the batch (DAPO, TRL's "bnpo")
    constant   sum over tokens / (answers * max_tokens): no length bias (Dr. GRPO)

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

    kl: mean over tokens of the k3 estimate. clip_fraction: share of tokens (or sequences) whose
    ratio was clipped. ratio: mean importance ratio.
    """

    loss: torch.Tensor
    kl: float
    clip_fraction: float
    ratio: float


def clipped_loss(
    log_probs_BC: torch.Tensor,
    old_log_probs_BC: torch.Tensor,
    advantages_B: torch.Tensor,
    mask_BC: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ratio: Ratio = "token",
    average: Average = "sequence",
    max_tokens: int | None = None,
    reference_log_probs_BC: torch.Tensor | None = None,
    beta: float = 0.0,
    weights_B: torch.Tensor | None = None,
) -> LossTerms:
    """Return the loss of a batch of answers.

    log_probs_BC: with gradients; old_log_probs_BC: of the policy that answered; both of the tokens
    drawn. mask_BC: tokens that count (no padding; none of a truncated answer, if so wished).
    max_tokens: needed for average "constant". reference_log_probs_BC, beta: the KL anchor, k3
    estimate (Schulman), none without. weights_B: truncated importance weights of answers drawn by
    older weights (asynchronous rollouts). An answer without tokens adds nothing.
    """
    mask = mask_BC.float()
    log_ratio_BC = (log_probs_BC - old_log_probs_BC) * mask
    if ratio == "sequence":
        mean_B = log_ratio_BC.sum(-1) / mask.sum(-1).clamp_min(1)
        # GSPO: the sequence's ratio, whose gradient reaches every token alike.
        log_ratio_BC = log_probs_BC - log_probs_BC.detach() + mean_B.detach()[:, None]
    ratio_BC = log_ratio_BC.exp()
    clipped_BC = ratio_BC.clamp(1 - clip_low, 1 + clip_high)
    advantages_B1 = advantages_B[:, None]
    gain_BC = torch.minimum(ratio_BC * advantages_B1, clipped_BC * advantages_B1)
    kl_BC = torch.zeros_like(gain_BC)
    if reference_log_probs_BC is not None:
        kl_BC = k3(log_probs_BC * mask, reference_log_probs_BC * mask)
    per_token_BC = -(gain_BC - beta * kl_BC)
    if weights_B is not None:
        per_token_BC = per_token_BC * weights_B[:, None]
    loss = _average(per_token_BC * mask, mask, average, max_tokens)
    with torch.no_grad():
        was_clipped = (clipped_BC * advantages_B1 < ratio_BC * advantages_B1) & mask_BC.bool()
        counted = mask.sum().clamp_min(1)
        return LossTerms(
            loss=loss,
            kl=float((kl_BC * mask).sum() / counted),
            clip_fraction=float(was_clipped.sum() / counted),
            ratio=float((ratio_BC * mask).sum() / counted),
        )


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


def _average(
    per_token_BC: torch.Tensor, mask_BC: torch.Tensor, average: Average, max_tokens: int | None
) -> torch.Tensor:
    if average == "token":
        return per_token_BC.sum() / mask_BC.sum().clamp_min(1)
    if average == "constant":
        assert max_tokens, "average 'constant' needs max_tokens"
        return per_token_BC.sum() / (len(per_token_BC) * max_tokens)
    return (per_token_BC.sum(-1) / mask_BC.sum(-1).clamp_min(1)).mean()
