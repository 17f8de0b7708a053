"""Log-probabilities with gradients of what an engine has drawn, under the setting it drew it with.

    questions with completions --branches--> a few rows, one forward pass
      -> hidden states -> logits of a few positions at a time -> numbers per token

Logits (R x S x V) never exist as a whole: each slice of positions is computed, reduced to three
numbers a token, and computed again for its gradient.

Letters: R rows, N tokens of all completions, C tokens of one, K tokens of a distribution that are
named, D channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from marc_core.evidence import Evidence
from marc_core.models.adapters import Adapter
from marc_core.models.branches import Row, branched, row_tokens, split_rows
from marc_core.models.divergence import Direction, TokenDistribution, divergence, stacked
from marc_core.models.engine import SamplingRecord
from marc_core.models.sampling import log_probs, next_ids

LOGITS_PER_SLICE = 64 * 1024**2
"""Logits computed at once: 256 MB in float32, 440 positions of Qwen2.5-VL (our choice)."""
ROW_TOKENS = 1024
"""Tokens of a row that holds several completions (our choice: G = 8 answers with their reasoning
take rows of their own, short answers share one)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A question's completions, and how they were drawn.

    evidence: what the student read. completions: token ids with the end token. record: the
    setting of all of them (Completion.sampling). teacher: of each completion, the teacher's
    distribution at each token (`Policy.distributions`), or None; empty where none has one.
    """

    evidence: Evidence
    completions: Sequence[Sequence[int]]
    record: SamplingRecord
    teacher: Sequence[TokenDistribution | None] = ()


class Scored(NamedTuple):
    """Of every completion, in order, a (C,) float32 tensor.

    log_probs: of each token under the distribution that it was drawn from. entropies: of that
    distribution, in nats, without gradients. divergences: from the teacher's distribution, 0
    where none was given.
    """

    log_probs: list[torch.Tensor]
    entropies: list[torch.Tensor]
    divergences: list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Token:
    """A token to score. allowed: the ids that could have been drawn; none where all could."""

    target: int
    temperature: float
    allowed: list[int]


class Policy(torch.nn.Module):
    """A student as training sees it. Wrap the policy, not its model, for DDP and FSDP.

    model: a whole Qwen-VL model of the library. row_tokens: see `branches.split_rows`.
    """

    def __init__(
        self,
        model: Any,
        adapter: Adapter,
        *,
        pad_id: int,
        logits_per_slice: int = LOGITS_PER_SLICE,
        row_tokens: int = ROW_TOKENS,
    ) -> None:
        super().__init__()
        self.model, self.adapter, self.pad_id = model, adapter, pad_id
        self.logits_per_slice, self.row_tokens = logits_per_slice, row_tokens

    def forward(self, drawn: Sequence[Drawn], direction: Direction = "reverse") -> Scored:
        """Return log-probabilities, entropies and divergences of all tokens.

        Under the distribution that they were drawn from: temperature, suppressed ids, and choices
        renormalised over the ids that may follow. Gradients flow unless turned off. direction: of
        the divergence, see `divergence`. One forward pass for all that is given: `micro_batches`
        divides a larger batch.
        """
        tokens, teacher = _tokens(drawn), _teacher(drawn)
        hidden_ND = self._hidden(self.rows(drawn))
        suppressed = drawn[0].record.suppressed_ids

        def compute(part: slice, states_ND: torch.Tensor) -> torch.Tensor:
            values_NV = self._log_probs(states_ND, tokens[part], suppressed)
            own = None if teacher is None else (teacher[0][part], teacher[1][part])
            return _reduced(values_NV, tokens[part], own, direction)

        found = []
        for part in self._slices(len(tokens)):
            if torch.is_grad_enabled():
                found.append(checkpoint(compute, part, hidden_ND[part], use_reentrant=False))
            else:
                found.append(compute(part, hidden_ND[part]))
        sizes = [len(ids) for d in drawn for ids in d.completions]
        columns = torch.cat(found).unbind(1)
        return Scored(*(list(torch.split(column, sizes)) for column in columns))

    def distributions(self, drawn: Sequence[Drawn], most: int) -> list[TokenDistribution]:
        """Return of every completion the distribution at each token, without gradients.

        The `most` most probable ids, or all that could be drawn where these are fewer; on the CPU.
        What a teacher says about a student's completions: `drawn` then holds its own evidence.
        """
        tokens = _tokens(drawn)
        suppressed = drawn[0].record.suppressed_ids
        parts = []
        with torch.no_grad():
            hidden_ND = self._hidden(self.rows(drawn))
            for part in self._slices(len(tokens)):
                values_NV = self._log_probs(hidden_ND[part], tokens[part], suppressed)
                parts.append(values_NV.topk(min(most, values_NV.shape[1]), dim=-1))
        values_NK = torch.cat([part.values for part in parts]).cpu()
        ids_NK = torch.cat([part.indices for part in parts]).cpu()
        sizes = [len(ids) for d in drawn for ids in d.completions]
        found = []
        parts_of = (torch.split(x, sizes) for x in (ids_NK, values_NK))
        for ids, values in zip(*parts_of, strict=True):
            used = int(values.isfinite().sum(-1).max())
            found.append(TokenDistribution(ids_CK=ids[:, :used], log_probs_CK=values[:, :used]))
        return found

    def rows(self, drawn: Sequence[Drawn]) -> list[Row]:
        """Return the rows in which a forward pass lays these questions out."""
        assert all(ids for d in drawn for ids in d.completions), "a completion has a token"
        suppressed = drawn[0].record.suppressed_ids
        assert all(d.record.suppressed_ids == suppressed for d in drawn), "one student, one set"
        return [
            (d.evidence, part)
            for d in drawn
            for part in split_rows(d.evidence, d.completions, self.row_tokens)
        ]

    def _hidden(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return (N, D): the states that predict each token."""
        weight = self.model.get_input_embeddings().weight
        made = branched(
            rows, self.adapter, pad_id=self.pad_id, device=weight.device, dtype=weight.dtype
        )
        hidden_RSD: torch.Tensor = self.model.model(
            **made.inputs, use_cache=False
        ).last_hidden_state
        return hidden_RSD[made.rows_N, made.columns_N]

    def _log_probs(
        self, states_ND: torch.Tensor, tokens: Sequence[_Token], suppressed: Sequence[int]
    ) -> torch.Tensor:
        """Return (N, V) log-probabilities, -inf for what could not be drawn."""
        logits_NV = self.model.lm_head(states_ND)
        temperatures = [token.temperature for token in tokens]
        return log_probs(logits_NV, temperatures, suppressed, [token.allowed for token in tokens])

    def _slices(self, num_tokens: int) -> list[slice]:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        step = max(1, self.logits_per_slice // vocabulary)
        return [slice(at, at + step) for at in range(0, num_tokens, step)]


def micro_batches(policy: Policy, drawn: Sequence[Drawn], most_tokens: int) -> list[list[int]]:
    """Divide questions so that each part's rows, padded, hold at most `most_tokens`.

    Returns the questions' places in `drawn`, like lengths together, one at least in each part. For
    each: `backward` on what the policy returns, before the next one is computed.
    """
    rows = [[row_tokens(*row) for row in policy.rows([d])] for d in drawn]
    parts: list[list[int]] = []
    longest = num_rows = 0
    for place in sorted(range(len(drawn)), key=lambda i: max(rows[i])):
        longest, num_rows = max(longest, *rows[place]), num_rows + len(rows[place])
        if parts and longest * num_rows <= most_tokens:
            parts[-1].append(place)
        else:
            parts.append([place])
            longest, num_rows = max(rows[place]), len(rows[place])
    return parts


def freeze_vision(model: Any) -> None:
    """Keep the vision tower as it is: evidence was made with it, and a memory holds its tokens."""
    for name, parameter in model.named_parameters():
        if "visual." in name:
            parameter.requires_grad_(False)


def _tokens(drawn: Sequence[Drawn]) -> list[_Token]:
    return [
        _Token(token, d.record.temperature, next_ids(d.record.choice_ids, ids[:at]))
        for d in drawn
        for ids in d.completions
        for at, token in enumerate(ids)
    ]


def _teacher(drawn: Sequence[Drawn]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the teacher's (ids (N, K), log-probabilities (N, K)), or None where there is none.

    Completions without a teacher have none: all of their log-probabilities are -inf.
    """
    if not any(d.teacher for d in drawn):
        return None
    found: list[TokenDistribution | int] = []
    for d in drawn:
        given = d.teacher or [None] * len(d.completions)
        found += [
            len(ids) if own is None else own for ids, own in zip(d.completions, given, strict=True)
        ]
    return stacked(found)


def _reduced(
    values_NV: torch.Tensor,
    tokens: Sequence[_Token],
    teacher: tuple[torch.Tensor, torch.Tensor] | None,
    direction: Direction,
) -> torch.Tensor:
    """Return (N, 3): log-probability of the target, entropy, divergence from the teacher."""
    device = values_NV.device
    targets_N1 = torch.tensor([[token.target] for token in tokens], device=device)
    picked_N = values_NV.gather(1, targets_N1)[:, 0]
    entropy_N = torch.special.entr(values_NV.detach().exp()).sum(-1)
    apart_N = torch.zeros_like(picked_N)
    if teacher is not None:
        ids_NK, log_probs_NK = (x.to(device) for x in teacher)
        apart_N = divergence(values_NV.gather(1, ids_NK), log_probs_NK, direction)
    return torch.stack([picked_N, entropy_N, apart_N], dim=1)
