"""How far a student's next-token distribution lies from its teacher's.

A teacher's distribution travels as its K most probable ids, all that may follow where an answer is
decoded among choices. What it leaves out counts as one more token, on both sides: the divergence
of distributions that are lumped together so is at most that of the whole ones (data processing
inequality), and equal where nothing is left out.

Letters: N tokens, C tokens of a completion, K ids that are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Direction = Literal["reverse", "forward"]
"""reverse: KL(student || teacher), which seeks one of the teacher's modes. forward: KL(teacher ||
student), which covers all of them."""
NEVER = -1e4
"""Log-probability that stands for 0."""
FLOOR = 1e-6
"""Least probability of all that is left out (our choice: above the error of a float32 sum)."""


@dataclass(frozen=True, kw_only=True)
class TokenDistribution:
    """A distribution at each token of a completion: ids and their log-probabilities, on the CPU.

    -inf: an id that cannot be drawn, in place of none.
    """

    ids_CK: torch.Tensor
    log_probs_CK: torch.Tensor


def divergence(
    student_NK: torch.Tensor, teacher_NK: torch.Tensor, direction: Direction = "reverse"
) -> torch.Tensor:
    """Return (N,) the divergence in nats, with gradients for the student; 0 without a teacher.

    student_NK, teacher_NK: log-probabilities of the ids that the teacher names (-inf: none).
    """
    named_NK = torch.isfinite(teacher_NK)
    student_NK = student_NK.clamp_min(NEVER).masked_fill(~named_NK, 0.0)
    teacher_NK = teacher_NK.masked_fill(~named_NK, 0.0)
    p_student_NK, p_teacher_NK = student_NK.exp() * named_NK, teacher_NK.exp() * named_NK
    rest_student_N = (1 - p_student_NK.sum(-1)).clamp_min(FLOOR)
    rest_teacher_N = (1 - p_teacher_NK.sum(-1)).clamp_min(FLOOR)
    difference_NK = student_NK - teacher_NK
    rest_N = rest_student_N.log() - rest_teacher_N.log()
    if direction == "reverse":
        apart_N = (p_student_NK * difference_NK).sum(-1) + rest_student_N * rest_N
    else:
        apart_N = -(p_teacher_NK * difference_NK).sum(-1) - rest_teacher_N * rest_N
    return apart_N.masked_fill(~named_NK.any(-1), 0.0)


def stacked(parts: Sequence[TokenDistribution | int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids (N, K), log-probabilities (N, K)) of completions one behind the other.

    An int is a completion of that many tokens without a distribution.
    """
    width = max(p.ids_CK.shape[1] for p in parts if not isinstance(p, int))
    all_ids, all_values = [], []
    for part in parts:
        size = part if isinstance(part, int) else len(part.ids_CK)
        ids = torch.zeros(size, width, dtype=torch.long)
        values = torch.full((size, width), -torch.inf)
        if not isinstance(part, int):
            ids[:, : part.ids_CK.shape[1]] = part.ids_CK
            values[:, : part.ids_CK.shape[1]] = part.log_probs_CK
        all_ids.append(ids)
        all_values.append(values)
    return torch.cat(all_ids), torch.cat(all_values)
