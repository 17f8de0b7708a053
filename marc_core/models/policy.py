"""Log-probabilities with gradients of what an engine has drawn, under the setting it drew it with.

    Evidence --prompt once--> cache --repeated for its completions--> one forward pass of G rows
      -> hidden states -> logits of a few positions at a time -> log-probabilities of the targets

Evidence is given once for all completions of a question, so that its prompt, by far the longest
part, is computed once. Logits (B x C x V) never exist as a whole: each slice of positions is
computed, reduced to one number a token, and computed again for its gradient.

Letters: B prompts, G completions in all, C tokens of a completion, D channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from marc_core.evidence import Evidence
from marc_core.models.adapters import Adapter
from marc_core.models.engine import SamplingRecord
from marc_core.models.inputs import collate
from marc_core.models.sampling import log_probs, next_ids
from marc_core.models.vision_tower import slices

LOGITS_PER_SLICE = 64 * 1024**2
"""Logits computed at once: 256 MB in float32, 440 positions of Qwen2.5-VL (our choice)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A question's completions, and how they were drawn.

    evidence: what the student read. completions: token ids with the end token. record: the
    setting of all of them (Completion.sampling).
    """

    evidence: Evidence
    completions: Sequence[Sequence[int]]
    record: SamplingRecord


class Policy(torch.nn.Module):
    """A student as training sees it. Wrap the policy, not its model, for DDP and FSDP.

    model: a whole Qwen-VL model of the library.
    """

    def __init__(
        self,
        model: Any,
        adapter: Adapter,
        *,
        pad_id: int,
        logits_per_slice: int = LOGITS_PER_SLICE,
    ) -> None:
        super().__init__()
        self.model, self.adapter, self.pad_id = model, adapter, pad_id
        self.logits_per_slice = logits_per_slice

    def forward(self, drawn: Sequence[Drawn]) -> list[torch.Tensor]:
        """Return a (C,) float32 tensor of log-probabilities for every completion, in order.

        Of each token under the distribution that it was drawn from: temperature, suppressed ids,
        and choices renormalised over the ids that may follow. Gradients flow unless turned off.
        One forward pass for all that is given: `micro_batches` divides a larger batch.
        """
        rows = [(i, list(ids)) for i, d in enumerate(drawn) for ids in d.completions]
        assert all(ids for _, ids in rows), "a completion has at least one token"
        suppressed = drawn[0].record.suppressed_ids
        assert all(d.record.suppressed_ids == suppressed for d in drawn), "one student, one set"
        hidden_GCD = self._hidden([d.evidence for d in drawn], rows)
        hidden_ND = torch.cat([hidden_GCD[g, : len(ids)] for g, (_, ids) in enumerate(rows)])
        tokens = [
            (token, drawn[i].record, ids[:at]) for i, ids in rows for at, token in enumerate(ids)
        ]
        picked = [self._picked(hidden_ND[part], tokens[part]) for part in self._slices(len(tokens))]
        return list(torch.split(torch.cat(picked), [len(ids) for _, ids in rows]))

    def _hidden(
        self, evidences: Sequence[Evidence], rows: Sequence[tuple[int, list[int]]]
    ) -> torch.Tensor:
        """Return (G, C, D): the states that predict each token of each completion.

        The prompt's last token predicts the first one. The completions, each without its last
        token, are read on top of the prompts' cache, repeated for a question's completions.
        """
        from transformers import DynamicCache

        weight = self.model.get_input_embeddings().weight
        inputs = collate(
            evidences, self.adapter, pad_id=self.pad_id, device=weight.device, dtype=weight.dtype
        )
        cache: Any = DynamicCache()
        prompt_BSD: torch.Tensor = self.model.model(
            **inputs, past_key_values=cache, use_cache=True
        ).last_hidden_state
        origin = torch.tensor([i for i, _ in rows], device=weight.device)
        first_G1D = prompt_BSD[origin, -1:]
        longest = max(len(ids) for _, ids in rows) - 1
        if longest == 0:
            return first_G1D
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[origin], layer.values[origin]
        ids_GC, mask_GC = _padded([ids[:-1] for _, ids in rows], longest, self.pad_id)
        last_3G1 = inputs["position_ids"][:, origin, -1:]
        more_GCD = self.model.model(
            input_ids=ids_GC.to(weight.device),
            attention_mask=torch.cat(
                [inputs["attention_mask"][origin], mask_GC.to(weight.device)], dim=1
            ),
            position_ids=last_3G1 + 1 + torch.arange(longest, device=weight.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return torch.cat([first_G1D, more_GCD], dim=1)

    def _slices(self, num_tokens: int) -> list[slice]:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        step = max(1, self.logits_per_slice // vocabulary)
        return [slice(at, at + step) for at in range(0, num_tokens, step)]

    def _picked(
        self,
        hidden_ND: torch.Tensor,
        tokens: Sequence[tuple[int, SamplingRecord, Sequence[int]]],
    ) -> torch.Tensor:
        """Return (N,) log-probabilities of tokens, given with their record and what precedes."""
        targets_N1 = torch.tensor([[token] for token, _, _ in tokens], device=hidden_ND.device)
        allowed = [next_ids(record.choice_ids, prefix) for _, record, prefix in tokens]
        temperatures = [record.temperature for _, record, _ in tokens]
        suppressed = tokens[0][1].suppressed_ids

        def compute(states_ND: torch.Tensor) -> torch.Tensor:
            logits_NV = self.model.lm_head(states_ND)
            return log_probs(logits_NV, temperatures, suppressed, allowed).gather(1, targets_N1)

        if not torch.is_grad_enabled():
            return compute(hidden_ND)[:, 0]
        computed: torch.Tensor = checkpoint(compute, hidden_ND, use_reentrant=False)
        return computed[:, 0]


def micro_batches(drawn: Sequence[Drawn], most: int) -> list[Sequence[Drawn]]:
    """Divide questions so that each part has at most `most` completions, one question at least.

    For each: `backward` on what the policy returns, before the next one is computed.
    """
    return [drawn[part] for part in slices([len(d.completions) for d in drawn], most)]


def _padded(
    rows: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids, mask) of ragged rows, padded on the right."""
    ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    return ids, mask
