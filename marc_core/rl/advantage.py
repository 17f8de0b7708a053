"""From rewards to advantages: A_i = (R_i - mean R) / scale (paper, section 3.3).

What the difference is divided by is a choice with consequences, so it is explicit:

    group   the group's standard deviation (the paper, GRPO): with a binary reward r_c cancels out
    batch   the batch's: groups with a larger spread of rewards count more
    none    nothing (Dr. GRPO, arXiv 2503.20783): r_c multiplies a group's advantages by 1 + r_c

Letters: Q questions of a batch, G answers to a question.
"""

from __future__ import annotations

from typing import Literal

import torch

Scale = Literal["group", "batch", "none"]
EPSILON = 1e-4
"""Added to a standard deviation (TRL's value)."""


def advantages(reward_QG: torch.Tensor, *, scale: Scale, epsilon: float = EPSILON) -> torch.Tensor:
    """Return (Q, G) advantages; 0 for a group whose rewards are all equal.

    Standard deviations are those of a sample (n - 1), as in TRL; a single reward has none (0).
    """
    centred_QG = reward_QG - reward_QG.mean(-1, keepdim=True)
    if scale == "none":
        return centred_QG
    spread = reward_QG if scale == "group" else reward_QG.reshape(1, -1)
    std = spread.std(-1, keepdim=True) if spread.shape[-1] > 1 else spread.new_zeros(len(spread), 1)
    return centred_QG / (std + epsilon)


def has_variance(reward_QG: torch.Tensor) -> torch.Tensor:
    """Return (Q,) whether a group's rewards differ: the others teach nothing (dynamic sampling)."""
    return (reward_QG.amax(-1) - reward_QG.amin(-1)) > 0


def expected_advantages(
    log_probs_QO: torch.Tensor, reward_QO: torch.Tensor, *, mask_QO: torch.Tensor | None = None
) -> torch.Tensor:
    """Return (Q,) the exact expectation of the reward over a question's O options.

    Where the answer is one of a few options, its gradient is the policy gradient without the
    variance of sampling (our choice; off by default). mask_QO: options that exist.
    """
    if mask_QO is not None:
        log_probs_QO = log_probs_QO.masked_fill(~mask_QO, -torch.inf)
        reward_QO = reward_QO.masked_fill(~mask_QO, 0.0)
    return (log_probs_QO.softmax(-1) * reward_QO).sum(-1)
