"""Rows that are decoded together: prefill, one step for all, rows leave and batches join.

    prefill(requests) -> DecodingBatch --step--> --step--> ...   each step: one token for each row
                              |   keep(rows)     rows that are done leave
                              +-- join(other)    rows of another batch enter, padded on the left

    cache of a row   |pad pad  prompt  answer so far|   the columns of all rows end together

Letters: B rows, S columns of the cache.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from marc_core.evidence import Evidence
from marc_core.models.adapters import Adapter
from marc_core.models.engine import Completion, Delta, FinishReason, SamplingRecord
from marc_core.models.inputs import collate
from marc_core.models.sampling import draw, log_probs, next_ids
from marc_core.models.text_stream import TextStream


@dataclass
class Row:
    """One sample on its way.

    owner: whose results it makes; the engine's matter. position: of its next token.
    finish_reason: set when it is done.
    """

    request_id: str
    index: int
    evidence: Evidence
    record: SamplingRecord
    max_tokens: int
    generator: torch.Generator
    text: TextStream
    owner: Any = None
    prompt_tokens: int = 0
    position: int = 0
    weights_version: int = 0
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    started: float = field(default_factory=time.perf_counter)

    def allowed(self) -> list[int]:
        """Return the ids that may follow; none where all may."""
        return next_ids(self.record.choice_ids, self.token_ids)

    def uniform(self) -> float:
        """Return the row's next random number in [0, 1)."""
        if self.record.temperature == 0:
            return 0.0
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def push(self, token: int, log_prob: float, end_ids: Sequence[int]) -> Delta:
        """Add a token; decide whether it was the last one."""
        self.token_ids.append(token)
        self.log_probs.append(log_prob)
        self.position += 1
        if token in end_ids:
            self.finish_reason = "stop"
        elif len(self.token_ids) >= self.max_tokens:
            self.finish_reason = "length"
        text = self.text.push(self.token_ids, last=self.finish_reason is not None)
        if self.text.stopped:
            self.finish_reason = "stop"
        return Delta(request_id=self.request_id, index=self.index, text=text, token_ids=(token,))

    def completion(self) -> Completion:
        """Return what became of the row, which must be done."""
        assert self.finish_reason is not None, "the row is not done"
        return Completion(
            request_id=self.request_id,
            index=self.index,
            text=self.text.text,
            token_ids=tuple(self.token_ids),
            log_probs=tuple(self.log_probs),
            finish_reason=self.finish_reason,
            weights_version=self.weights_version,
            prompt_tokens=self.prompt_tokens,
            visual_tokens=self.evidence.num_tokens,
            sampling=self.record,
            seconds=time.perf_counter() - self.started,
        )


class Decoder:
    """The model, and what every batch needs to know of it."""

    def __init__(
        self,
        model: Any,
        adapter: Adapter,
        *,
        device: torch.device,
        dtype: torch.dtype,
        pad_id: int,
        end_ids: Sequence[int],
    ) -> None:
        self.model, self.adapter = model, adapter
        self.device, self.dtype, self.pad_id, self.end_ids = device, dtype, pad_id, tuple(end_ids)

    def prefill(self, samples: Sequence[Sequence[Row]]) -> tuple[DecodingBatch, list[Delta]]:
        """Read the prompts of requests, given as each one's samples; draw their first tokens.

        The samples of a request share its prompt, which is computed once.
        """
        from transformers import DynamicCache

        inputs = collate(
            [rows[0].evidence for rows in samples],
            self.adapter,
            pad_id=self.pad_id,
            device=self.device,
            dtype=self.dtype,
        )
        cache = DynamicCache()
        logits = self.model(
            **inputs, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        origin = [i for i, rows in enumerate(samples) for _ in rows]
        last_B = inputs["position_ids"][:, :, -1].amax(0).tolist()
        sizes_B = inputs["attention_mask"].sum(1).tolist()
        for i, rows in enumerate(samples):
            for row in rows:
                row.position, row.prompt_tokens = last_B[i] + 1, sizes_B[i]
        rows = [row for group in samples for row in group]
        batch = DecodingBatch(self, rows, cache, inputs["attention_mask"])
        if origin != list(range(len(samples))):
            batch.select(origin)
        return batch, batch.advance(logits[origin])


class DecodingBatch:
    """Rows with one cache. Rows stay in place until `keep`, so that a step moves nothing."""

    def __init__(
        self, decoder: Decoder, rows: list[Row], cache: Any, mask_BS: torch.Tensor
    ) -> None:
        self.decoder, self.rows, self.cache, self.mask_BS = decoder, rows, cache, mask_BS

    @property
    def columns(self) -> int:
        """Length of the cache, padding included."""
        return int(self.mask_BS.shape[1])

    def step(self) -> list[Delta]:
        """Compute one token for every row."""
        device = self.decoder.device
        last_B1 = torch.tensor([[row.token_ids[-1]] for row in self.rows], device=device)
        positions_B = torch.tensor([row.position - 1 for row in self.rows], device=device)
        self.mask_BS = torch.cat([self.mask_BS, self.mask_BS.new_ones(len(self.rows), 1)], dim=1)
        output = self.decoder.model(
            input_ids=last_B1,
            attention_mask=self.mask_BS,
            position_ids=positions_B[None, :, None].expand(3, -1, -1),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return self.advance(output.logits[:, -1])

    def advance(self, logits_BV: torch.Tensor) -> list[Delta]:
        """Draw every row's next token from its logits."""
        temperatures = [row.record.temperature for row in self.rows]
        log_probs_BV = log_probs(
            logits_BV,
            temperatures,
            self.rows[0].record.suppressed_ids,
            [row.allowed() for row in self.rows],
        )
        ids_B = draw(log_probs_BV, temperatures, [row.uniform() for row in self.rows])
        picked_B = log_probs_BV.gather(1, ids_B[:, None])[:, 0]
        drawn = zip(self.rows, ids_B.tolist(), picked_B.tolist(), strict=True)
        return [row.push(token, value, self.decoder.end_ids) for row, token, value in drawn]

    def remove_done(self) -> list[Row]:
        """Take out rows that are done and free their part of the cache; return them."""
        done = [row for row in self.rows if row.finish_reason is not None]
        left = [i for i, row in enumerate(self.rows) if row.finish_reason is None]
        if done and left:
            self.rows = [self.rows[i] for i in left]
            self.select(left)
        elif done:
            self.rows, self.cache = [], None
        return done

    def select(self, origin: Sequence[int]) -> None:
        """Make row i that of old row origin[i], and drop columns that are padding in all."""
        index = torch.tensor(origin, device=self.mask_BS.device)
        mask_BS = self.mask_BS[index]
        unused = int(mask_BS.argmax(1).min())
        self.mask_BS = mask_BS[:, unused:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[index, :, unused:]
            layer.values = layer.values[index, :, unused:]

    def join(self, other: DecodingBatch) -> None:
        """Take in the rows of another batch; the shorter one is padded on the left."""
        longest = max(self.columns, other.columns)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            for name in ("keys", "values"):
                parts = [_padded(getattr(x, name), longest) for x in (mine, theirs)]
                setattr(mine, name, torch.cat(parts))
                setattr(theirs, name, None)
        masks = [_padded(m[:, None, :, None], longest) for m in (self.mask_BS, other.mask_BS)]
        self.mask_BS = torch.cat(masks)[:, 0, :, 0]
        self.rows += other.rows


def joined_waste(first: DecodingBatch, second: DecodingBatch) -> float:
    """Return columns of both caches after joining / columns before: 1 where nothing is wasted."""
    together = max(first.columns, second.columns) * (len(first.rows) + len(second.rows))
    apart = first.columns * len(first.rows) + second.columns * len(second.rows)
    return together / apart


def _padded(x_BHSD: torch.Tensor, columns: int) -> torch.Tensor:
    missing = columns - x_BHSD.shape[2]
    return torch.nn.functional.pad(x_BHSD, (0, 0, missing, 0)) if missing else x_BHSD
