"""From rewards to advantages: A_i = (R_i - mean R) / scale (paper, section 3.3).

What the difference is divided by is a choice with consequences, so it is explicit:

    group   the group's standard deviation (the paper, GRPO): with a binary reward r_c cancels out
    batch   the batch's: groups with a larger spread of rewards count more
    none    nothing (Dr. GRPO, arXiv 2503.20783): r_c multiplies a group's advantages by 1 + r_c

Letters: Q questions of a batch, G answers to a question, O options of a question.
"""

from __future__ import annotations

from typing import Literal

import torch

Scale = Literal["group", "batch", "none"]
EPSILON = 1e-4
"""Added to a standard deviation (TRL's value)."""


def advantages(
    reward_QG: torch.Tensor,
    *,
    scale: Scale,
    mask_QG: torch.Tensor | None = None,
    batch_std: float | torch.Tensor | None = None,
    epsilon: float = EPSILON,
) -> torch.Tensor:
    """Return (Q, G) advantages; 0 for a group whose rewards are all equal.

    Standard deviations are those of a sample (n - 1), as in TRL; a single reward has none (0).
    mask_QG: answers that exist, where groups differ in size; the others get 0. batch_std: of all
    workers' rewards for scale "batch" (`spread_of` their summed `moments`); None takes these.
    """
    mask_QG = torch.ones_like(reward_QG) if mask_QG is None else mask_QG.to(reward_QG.dtype)
    count_Q1 = mask_QG.sum(-1, keepdim=True)
    mean_Q1 = (reward_QG * mask_QG).sum(-1, keepdim=True) / count_Q1.clamp_min(1)
    centred_QG = (reward_QG - mean_Q1) * mask_QG
    if scale == "none":
        return centred_QG
    if scale == "batch":
        std = spread_of(moments(reward_QG, mask_QG)) if batch_std is None else batch_std
        return centred_QG / (std + epsilon)
    variance_Q1 = centred_QG.square().sum(-1, keepdim=True) / (count_Q1 - 1).clamp_min(1)
    return centred_QG / (variance_Q1.sqrt() + epsilon)


def moments(reward_QG: torch.Tensor, mask_QG: torch.Tensor) -> torch.Tensor:
    """Return (3,) float64 [count, sum, sum of squares] of rewards: what workers add up."""
    reward_QG, mask_QG = reward_QG.double(), mask_QG.double()
    weighted_QG = reward_QG * mask_QG
    return torch.stack([mask_QG.sum(), weighted_QG.sum(), (weighted_QG * reward_QG).sum()])


def spread_of(moments_3: torch.Tensor) -> float:
    """Return the standard deviation of a sample from its moments; 0 for less than two rewards."""
    count, total, squares = moments_3.tolist()
    if count < 2:
        return 0.0
    return float(max(0.0, (squares - total**2 / count) / (count - 1)) ** 0.5)


def has_variance(reward_QG: torch.Tensor, mask_QG: torch.Tensor | None = None) -> torch.Tensor:
    """Return (Q,) whether a group's rewards differ: the others teach nothing (dynamic sampling)."""
    if mask_QG is None:
        return (reward_QG.amax(-1) - reward_QG.amin(-1)) > 0
    there = mask_QG.bool()
    highest_Q = reward_QG.masked_fill(~there, -torch.inf).amax(-1)
    return highest_Q > reward_QG.masked_fill(~there, torch.inf).amin(-1)


def expected_reward(
    log_probs_QO: torch.Tensor, reward_QO: torch.Tensor, *, mask_QO: torch.Tensor | None = None
) -> torch.Tensor:
    """Return (Q,) the exact expectation of the reward over a question's O options.

    Where the answer is one of a few options, its gradient is the policy gradient without the
    variance of sampling (our choice; off by default). log_probs_QO: of whole options, of which
    one must be answered. mask_QO: options that exist.
    """
    if mask_QO is not None:
        log_probs_QO = log_probs_QO.masked_fill(~mask_QO, -torch.inf)
        reward_QO = reward_QO.masked_fill(~mask_QO, 0.0)
    return (log_probs_QO.softmax(-1) * reward_QO).sum(-1)


def expected_gain(
    log_probs_O: torch.Tensor, reward_O: torch.Tensor, *, scale: Scale, epsilon: float = EPSILON
) -> torch.Tensor:
    """Return one question's expected reward, scaled as its advantages would be.

    The gradient is the sum over options of p * A * d log p with A = (R - E R) / scale, the limit
    of an ever larger group. scale "batch" needs samples and is refused by the configuration.
    """
    assert scale != "batch", "the expectation has no batch to take a deviation from"
    mean = expected_reward(log_probs_O[None], reward_O[None])[0]
    if scale == "none":
        return mean
    p_O = log_probs_O.detach().softmax(-1)
    variance = (p_O * (reward_O - mean.detach()).square()).sum()
    return mean / (variance.sqrt() + epsilon)
