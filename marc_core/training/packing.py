"""Several questions about one video in one sequence, blind to one another.

    [user, <vision_start>] [visual tokens] [<vision_end>] | question 1, answer 1 | question 2 ...
           \\____________________ prefix ______________/

Every question continues the prefix: it sees the prefix and itself, and its positions start where
the prefix ends. So each row of logits is what the question alone would give (see the test), and
the visual prefix is computed once instead of once per question.

Letters: B videos, S tokens, K groups, P tokens of a group, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from marc_core.models.positions import VisualBlock, position_ids, ticks
from marc_core.models.prompt import VIDEO_MARK, chat_text

IGNORE = -100
"""Label of a token without loss, torch's own."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One video's features and the questions to train on.

    features_KPD: groups, compressed or not. times_K: their seconds. grid_hw: tokens of a group.
    turns: (token ids after the visual block up to the answer, answer ids with the end token).
    """

    features_KPD: torch.Tensor
    times_K: torch.Tensor
    grid_hw: tuple[int, int]
    turns: tuple[tuple[list[int], list[int]], ...]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Tensors of B packed videos. segments_BS: 0 prefix, 1.. questions, -1 padding."""

    ids_BS: torch.Tensor
    labels_BS: torch.Tensor
    segments_BS: torch.Tensor
    positions_3BS: torch.Tensor
    is_visual_BS: torch.Tensor
    features_ND: torch.Tensor

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on `device`."""
        return PackedBatch(*(getattr(self, f).to(device) for f in self.__slots__))


def turn_ids(tokenizer: Any, user_text: str, answer: str) -> tuple[list[int], list[int]]:
    """Return (ids after the visual block up to the answer, answer ids with the end token)."""
    prompt = chat_text(tokenizer, user_text, with_video=True)
    after = prompt.split(VIDEO_MARK)[1]
    ids = tokenizer(f"<|vision_end|>{after}", add_special_tokens=False).input_ids
    answer_ids = tokenizer(answer, add_special_tokens=False).input_ids
    return ids, [*answer_ids, tokenizer.eos_token_id]


def prefix_ids(tokenizer: Any) -> list[int]:
    """Return the ids before the visual tokens."""
    before = chat_text(tokenizer, "x", with_video=True).split(VIDEO_MARK)[0]
    ids: list[int] = tokenizer(f"{before}<|vision_start|>", add_special_tokens=False).input_ids
    return ids


def pack(
    samples: Sequence[Sample], *, tokenizer: Any, video_token: int, per_second: float
) -> PackedBatch:
    """Return one padded batch. per_second: the model's temporal index steps in a second."""
    before = prefix_ids(tokenizer)
    rows = [_row(s, before, video_token, per_second) for s in samples]
    length = max(len(r[0]) for r in rows)
    fills = (tokenizer.pad_token_id, IGNORE, -1, False)
    columns = [
        torch.stack([F.pad(r[i], (0, length - len(r[i])), value=fill) for r in rows])
        for i, fill in enumerate(fills)
    ]
    positions = torch.stack([F.pad(r[4], (0, length - r[4].shape[1])) for r in rows], dim=1)
    features = torch.cat([s.features_KPD.flatten(0, 1) for s in samples])
    return PackedBatch(columns[0], columns[1], columns[2], positions, columns[3], features)


def _row(
    sample: Sample, before: list[int], video_token: int, per_second: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, labels, segments, is_visual and (3, S) positions of one packed sequence."""
    num_visual = sample.features_KPD.shape[0] * sample.features_KPD.shape[1]
    ids = [*before, *[video_token] * num_visual]
    visual = [*[False] * len(before), *[True] * num_visual]
    labels, segments = [IGNORE] * len(ids), [0] * len(ids)
    block = VisualBlock(_ticks(sample.times_K, per_second), sample.grid_hw)
    positions = [position_ids(visual, [block], rule="max")]
    start = int(positions[0].max()) + 1
    for number, (question, answer) in enumerate(sample.turns, start=1):
        size = len(question) + len(answer)
        ids += [*question, *answer]
        labels += [*[IGNORE] * len(question), *answer]
        segments += [number] * size
        positions.append(torch.arange(start, start + size).expand(3, -1))
    visual += [False] * (len(ids) - len(visual))
    flat = torch.cat(positions, dim=1)
    return (
        torch.tensor(ids), torch.tensor(labels), torch.tensor(segments), torch.tensor(visual), flat
    )  # fmt: skip


def _ticks(times_K: torch.Tensor, per_second: float) -> tuple[int, ...]:
    return ticks(times_K, per_second, interval_s=2.0)


def attention_mask(segments_BS: torch.Tensor) -> torch.Tensor:
    """Return (B, 1, S, S) bool: causal, prefix for all, each question only for itself.

    Padding sees itself, so that no row of the softmax is empty.
    """
    size = segments_BS.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=segments_BS.device).tril()
    query, key = segments_BS.unsqueeze(2), segments_BS.unsqueeze(1)
    return ((query == key) | (key == 0) & (query > 0)).logical_and(causal).unsqueeze(1)


def answer_hidden(model: Any, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return hidden states (N, D) that predict answer tokens, and those tokens (N,)."""
    embeds = model.model.language_model.embed_tokens(batch.ids_BS)
    features = batch.features_ND.to(embeds.dtype)
    embeds = embeds.masked_scatter(batch.is_visual_BS.unsqueeze(-1), features)
    output = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch.positions_3BS,
        attention_mask=attention_mask(batch.segments_BS),
        use_cache=False,
    )
    targets = batch.labels_BS[:, 1:]
    chosen = targets != IGNORE
    hidden = output.last_hidden_state[:, :-1][chosen]
    return hidden, targets[chosen]


def answer_loss(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Return the mean cross-entropy of the answer tokens."""
    hidden_ND, targets_N = answer_hidden(model, batch)
    return F.cross_entropy(model.lm_head(hidden_ND).float(), targets_N)
