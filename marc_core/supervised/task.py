"""The loss of a step: - log p of the right answer, renormalised over what could have been said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from marc_core.models.policy import freeze_vision
from marc_core.supervised.layout import row_layout, wanted_states
from marc_core.supervised.packed_set import PackedSet, RowBatch

Metrics = dict[str, float]


class SupervisedTask(nn.Module):
    """A student on a packed training set. Implements what `training.loop.run_stage` asks of a task.

    size: workers that share each step. Losses are means over the step's questions, whatever their
    worker: the average of the workers' gradients is the gradient of one worker.
    """

    def __init__(
        self,
        student: Any,
        data: PackedSet,
        *,
        suppressed_ids: Sequence[int],
        questions_per_step: int,
        size: int = 1,
    ) -> None:
        super().__init__()
        self.student, self.data, self.size = student, data, size
        self.suppressed_ids = list(suppressed_ids)
        self.questions_per_step = questions_per_step
        freeze_vision(student)

    def batch(self, seed: int, step: int, rank: int) -> tuple[RowBatch, int]:
        """Return a worker's rows of a step, and the questions of all workers together."""
        per_step, size = self.questions_per_step, self.size
        rows = step_rows(self.data.questions_R, per_step, seed, step, least=size)
        own = rows[rank :: self.size]
        return self.data.batch(own), int(self.data.questions_R[rows].sum())

    def forward(self, batch: RowBatch, questions: int) -> tuple[torch.Tensor, Metrics]:
        """Return the loss, and the share of questions that are answered right."""
        log_probs_P, right_P = self.answers(batch)
        loss = -log_probs_P.sum() * self.size / questions
        right = all_right(right_P, batch.question_P, len(batch.sources))
        return loss, {"accuracy": float(right.float().mean())}

    def answers(self, batch: RowBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (P,) log-probabilities of the right tokens, and whether each is the most probable
        of those that could stand there."""
        device = self.student.device
        language = self.student.model.language_model
        embeds_TD = language.embed_tokens(batch.ids_T.to(device))
        tokens_ND = batch.tokens_ND.to(device, embeds_TD.dtype)
        embeds_TD = embeds_TD.index_copy(0, batch.visual_N.to(device), tokens_ND)
        states_PD = wanted_states(
            language,
            embeds_TD,
            batch.positions_3T.to(device),
            row_layout(batch.branches).to(device),
            batch.wanted_P.to(device),
        )
        logits_PV = self.student.lm_head(states_PD).float()
        blocked_PV = _blocked(batch, logits_PV.shape[1], self.suppressed_ids).to(device)
        values_PV = logits_PV.masked_fill(blocked_PV, -torch.inf).log_softmax(-1)
        targets_P = batch.targets_P.to(device)
        picked_P = values_PV.gather(1, targets_P[:, None])[:, 0]
        return picked_P, values_PV.detach().argmax(-1) == targets_P


def step_rows(
    questions_R: np.ndarray[Any, Any], per_step: int, seed: int, step: int, *, least: int = 1
) -> np.ndarray[Any, Any]:
    """Return the rows of a step: of a new order of all rows each time that all have been seen.

    A step holds about `per_step` questions: as many rows as have so many on average, and `least`
    rows at least.
    """
    num = len(questions_R)
    count = min(num, max(least, round(per_step / float(questions_R.mean()))))
    steps = num // count
    order = np.random.default_rng([seed, step // steps]).permutation(num)
    at = step % steps * count
    return order[at : at + count]


def all_right(right_P: torch.Tensor, question_P: torch.Tensor, questions: int) -> torch.Tensor:
    """Return (Q,) whether all tokens of each question are right."""
    wrong_Q = torch.zeros(questions, device=right_P.device)
    wrong_Q.index_add_(0, question_P.to(right_P.device), (~right_P).float())
    return wrong_Q == 0


def _blocked(batch: RowBatch, vocabulary: int, suppressed: Sequence[int]) -> torch.Tensor:
    """Return (P, V): what cannot be said."""
    blocked = batch.closed_P[:, None].repeat(1, vocabulary)
    rows_A, ids_A = batch.allowed_A2.T
    blocked[rows_A, ids_A] = False
    blocked[:, list(suppressed)] = True
    return blocked
