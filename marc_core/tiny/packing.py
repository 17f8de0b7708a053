"""Several questions about one video in one sequence, blind to one another.

    [user, <vision_start>] [visual tokens] [<vision_end>] | question 1, answer 1 | question 2 ...
           \\____________________ prefix ______________/

Every question continues the prefix: it sees the prefix and itself, and its positions start where
the prefix ends. So each row of logits is what the question alone would give (see the test), and
the visual prefix is computed once instead of once per question. The sequences of a batch lie one
behind the other without padding, and attention runs block by block: a mask over whole sequences
cost more than all matrix products together (docs/tiny.md).

Letters: S tokens of all videos, K groups, P tokens of a group, D channels, H heads, Q questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from marc_core.models.positions import VisualBlock, position_ids, ticks
from marc_core.models.prompt import VIDEO_MARK, chat_text

IGNORE = -100
"""Label of a token without loss, torch's own."""


@dataclass(frozen=True, slots=True)
class PackedTurns:
    """One video's features and the questions to train on.

    features_KPD: groups, compressed or not. times_K: their seconds. grid_hw: tokens of a group.
    turns: (token ids after the visual block up to the answer, answer ids with the end token).
    pointers_QK: what answers point at (`scenes.pointer_targets`); None for merged groups, which
    are no longer those of the video's scenes.
    """

    features_KPD: torch.Tensor
    times_K: torch.Tensor
    grid_hw: tuple[int, int]
    turns: tuple[tuple[list[int], list[int]], ...]
    pointers_QK: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Packed videos, one behind the other. blocks: (prefix tokens, tokens of each turn)."""

    ids_S: torch.Tensor
    labels_S: torch.Tensor
    positions_3S: torch.Tensor
    is_visual_S: torch.Tensor
    features_ND: torch.Tensor
    blocks: tuple[tuple[int, tuple[int, ...]], ...]

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on `device`."""
        return PackedBatch(
            self.ids_S.to(device),
            self.labels_S.to(device),
            self.positions_3S.to(device),
            self.is_visual_S.to(device),
            self.features_ND.to(device),
            self.blocks,
        )


def turn_ids(tokenizer: Any, user_text: str, answer: str) -> tuple[list[int], list[int]]:
    """Return (ids after the visual block up to the answer, answer ids with the end token)."""
    prompt = chat_text(tokenizer, user_text, with_video=True)
    after = prompt.split(VIDEO_MARK)[1]
    ids = tokenizer(f"<|vision_end|>{after}", add_special_tokens=False).input_ids
    return ids, answer_ids(tokenizer, answer)


def answer_ids(tokenizer: Any, text: str) -> list[int]:
    """Return an answer as the student should write it, with its end token."""
    return [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]


def prefix_ids(tokenizer: Any) -> list[int]:
    """Return the ids before the visual tokens."""
    before = chat_text(tokenizer, "x", with_video=True).split(VIDEO_MARK)[0]
    ids: list[int] = tokenizer(f"{before}<|vision_start|>", add_special_tokens=False).input_ids
    return ids


def pack(
    samples: Sequence[PackedTurns], *, tokenizer: Any, video_token: int, per_second: float
) -> PackedBatch:
    """Return one batch. per_second: the model's temporal index steps in a second."""
    before = prefix_ids(tokenizer)
    rows = [_row(s, before, video_token, per_second) for s in samples]
    ids, labels, visual = (torch.tensor([v for r in rows for v in r[i]]) for i in range(3))
    positions = torch.cat([r[3] for r in rows], dim=1)
    features = torch.cat([s.features_KPD.flatten(0, 1) for s in samples])
    return PackedBatch(ids, labels, positions, visual, features, tuple(r[4] for r in rows))


def _row(
    sample: PackedTurns, before: list[int], video_token: int, per_second: float
) -> tuple[list[int], list[int], list[bool], torch.Tensor, tuple[int, tuple[int, ...]]]:
    """Return ids, labels, is_visual, (3, S) positions and the block of one packed sequence."""
    num_visual = sample.features_KPD.shape[0] * sample.features_KPD.shape[1]
    ids = [*before, *[video_token] * num_visual]
    visual = [*[False] * len(before), *[True] * num_visual]
    prefix = len(ids)
    labels = [IGNORE] * prefix
    grid = VisualBlock(ticks(sample.times_K, per_second, interval_s=2.0), sample.grid_hw)
    positions = [position_ids(visual, [grid], rule="max")]
    start = int(positions[0].max()) + 1
    for question, answer in sample.turns:
        ids += [*question, *answer]
        labels += [*[IGNORE] * len(question), *answer]
        positions.append(torch.arange(start, start + len(question) + len(answer)).expand(3, -1))
    visual += [False] * (len(ids) - prefix)
    turns = tuple(len(question) + len(answer) for question, answer in sample.turns)
    return ids, labels, visual, torch.cat(positions, dim=1), (prefix, turns)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    blocks: Sequence[tuple[int, tuple[int, ...]]],
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of packed videos, in the form that transformers' models call.

    query, key, value: (1, H, S, D / H). Returns (1, S, H, D / H) and no weights.
    """
    sizes = [prefix + sum(turns) for prefix, turns in blocks]
    videos = zip(
        *(torch.split(x[0].transpose(0, 1), sizes) for x in (query, key, value)), strict=True
    )
    done = []
    for (prefix, turns), video in zip(blocks, videos, strict=True):
        batches = _alike(turns)
        parts = [torch.split(x, [prefix, *map(sum, batches)]) for x in video]
        q_SHD, k_SHD, v_SHD = (x[0] for x in parts)
        done.append(_attend(q_SHD, k_SHD, v_SHD, scaling))
        for i, lengths in enumerate(batches, start=1):
            own = [x[i] for x in parts]
            done.append(_attend_turns(own, k_SHD, v_SHD, lengths, scaling))
    return torch.cat(done).unsqueeze(0), None


def _attend(
    q_SHD: torch.Tensor, k_SHD: torch.Tensor, v_SHD: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Causal attention of a prefix; returns (S, H, D)."""
    q_HSD, k_HSD, v_HSD = (x.transpose(0, 1) for x in (q_SHD, k_SHD, v_SHD))
    return _softmax_attention(q_HSD, k_HSD, v_HSD, scaling).transpose(0, 1)


def _attend_turns(
    own_SHD: list[torch.Tensor],
    k_SHD: torch.Tensor,
    v_SHD: torch.Tensor,
    lengths: list[int],
    scaling: float,
) -> torch.Tensor:
    """Attention of turns of about one length to the prefix and themselves; returns (S, H, D).

    Shorter turns are padded behind their end, where causal attention does not look.
    """
    longest, device = max(lengths), k_SHD.device
    inside_QS = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
    rows_QS = (inside_QS.flatten().cumsum(0) - 1).clamp(min=0)
    padded = [x.index_select(0, rows_QS) for x in own_SHD]
    q, k, v = (x.view(*inside_QS.shape, *x.shape[1:]).transpose(1, 2) for x in padded)
    before = [x.transpose(0, 1).expand(len(lengths), -1, -1, -1) for x in (k_SHD, v_SHD)]
    keys, values = torch.cat([before[0], k], dim=2), torch.cat([before[1], v], dim=2)
    y = _softmax_attention(q, keys, values, scaling).transpose(1, 2).flatten(0, 1)
    return y.index_select(0, inside_QS.flatten().nonzero()[:, 0])


def _softmax_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention of the last queries of a causal sequence, written out.

    torch's fused kernel takes 2.6 times as long for so short sequences on a CPU, forward and
    backward (10 x 4 heads, 45 x 165, bfloat16).
    """
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    scores = torch.matmul(query * scaling, key.transpose(-1, -2)).float()
    ahead = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query.device)
    scores = scores.masked_fill(ahead.triu(num_keys - num_queries + 1), float("-inf"))
    return torch.matmul(scores.softmax(-1).to(value.dtype), value)


def _alike(turns: Sequence[int]) -> list[list[int]]:
    """Return neighbouring turns in batches in which none is over twice as long as another."""
    batches: list[list[int]] = []
    for length in turns:
        batch = batches[-1] if batches else []
        if batch and max(*batch, length) <= 2 * min(*batch, length):
            batch.append(length)
        else:
            batches.append([length])
    return batches


def answer_hidden(model: Any, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return hidden states (N, D) that predict answer tokens, and those tokens (N,)."""
    language = model.model.language_model
    embeds = language.embed_tokens(batch.ids_S)
    features = batch.features_ND.to(embeds.dtype)
    embeds = embeds.masked_scatter(batch.is_visual_S.unsqueeze(-1), features)
    ALL_ATTENTION_FUNCTIONS.register("packed", packed_attention)
    attention, language.config._attn_implementation = language.config._attn_implementation, "packed"
    try:
        output = language(
            inputs_embeds=embeds.unsqueeze(0),
            position_ids=batch.positions_3S.unsqueeze(1),
            attention_mask={"full_attention": None},
            blocks=batch.blocks,
            use_cache=False,
        )
    finally:
        language.config._attn_implementation = attention
    targets = batch.labels_S[1:]
    chosen = targets != IGNORE
    return output.last_hidden_state[0, :-1][chosen], targets[chosen]
