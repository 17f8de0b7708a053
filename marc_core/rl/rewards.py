"""Rewards of a group of answers to one question (paper, section 3.3).

    eta = a_comp / a_full                 retention: how much of the teacher's accuracy is kept
    r_c = alpha * max(0, eta - tau)       compression reward
    R_i = r_i + 1[correct_i] * r_c        a wrong answer never gains from retention

An observation that the paper does not make: with a binary reward alone R_i takes the two values 0
and 1 + r_c, and (R - mean) / std is the same for every r_c. The retention reward acts only together
with another reward, or where advantages are not divided by the group's standard deviation
(`marc_core.rl.advantage`).

Letters: Q questions of a batch, G student answers to a question, H teacher answers.
"""

from __future__ import annotations

import torch

ALPHA = 1.0
"""Weight of the compression reward (the paper gives no value; our choice: eta - tau <= 0.4 for a
student that keeps up, so r_c stays below the answer's own reward)."""
TAU = 0.6
"""Retention from which on it is rewarded (paper, table 4: 0.4 and 0.8 are worse)."""


def accuracies(correct_QG: torch.Tensor, mask_QG: torch.Tensor | None = None) -> torch.Tensor:
    """Return (Q,) the share of right answers to each question; 0 where no answer counts.

    Graded scores (free text, OCR, regression) are averaged likewise. mask_QG: answers that exist,
    where groups differ in size.
    """
    weight_QG = torch.ones_like(correct_QG, dtype=torch.float32)
    if mask_QG is not None:
        weight_QG = mask_QG.float()
    return (correct_QG.float() * weight_QG).sum(-1) / weight_QG.sum(-1).clamp_min(1)


def retention(a_comp_Q: torch.Tensor, a_full_Q: torch.Tensor) -> torch.Tensor:
    """Return (Q,) eta = a_comp / a_full, NaN where a_full is 0 or NaN (no teacher was asked).

    A question that the teacher never answers has nothing to retain; `compression_reward` gives it
    none (the paper does not say; our choice).
    """
    known_Q = a_full_Q > 0
    eta_Q = a_comp_Q / a_full_Q.where(known_Q, torch.ones_like(a_full_Q))
    return eta_Q.masked_fill(~known_Q, torch.nan)


def compression_reward(
    eta_Q: torch.Tensor, *, alpha: float = ALPHA, tau: float = TAU
) -> torch.Tensor:
    """Return (Q,) r_c = alpha * max(0, eta - tau); 0 where eta is NaN."""
    return alpha * (torch.nan_to_num(eta_Q, nan=0.0) - tau).clamp_min(0)


def gated_rewards(
    reward_QG: torch.Tensor,
    correct_QG: torch.Tensor,
    compression_Q: torch.Tensor,
    is_video_Q: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return (Q, G) R_i = r_i + 1[correct_i] * r_c.

    reward_QG: accuracy plus whatever else counts (format, length). is_video_Q: images take part
    without r_c (paper, section 4).
    """
    if is_video_Q is not None:
        compression_Q = compression_Q * is_video_Q.float()
    return reward_QG.float() + correct_QG.float() * compression_Q[:, None]
