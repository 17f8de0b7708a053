"""Prompts with several completions each, side by side in one row, blind to one another.

    row    |prompt: text, visual tokens, text|completion 1|completion 2| ... |padding
    mask   a completion sees its prompt and itself
    place  every completion's positions go on from its prompt's last one

So each completion is computed as if it stood alone (see the tests), and its prompt, by far the
longest part, is computed once. There is no key-value cache: gradient checkpointing drops one
without an error, and every layer is called once, as FSDP wants it.

Letters: R rows, S columns, N tokens of all completions, C of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from marc_core.evidence import Evidence
from marc_core.models.adapters import Adapter
from marc_core.models.inputs import full_ids, full_positions, prompt_tokens, visual_inputs

Row = tuple[Evidence, Sequence[Sequence[int]]]
"""A prompt and the completions that continue it."""


@dataclass(frozen=True, slots=True)
class Branched:
    """The model's arguments, and where the state that predicts each token comes out.

    rows_N, columns_N: of all tokens of all completions, in the order of the rows.
    """

    inputs: dict[str, Any]
    rows_N: torch.Tensor
    columns_N: torch.Tensor


def row_tokens(evidence: Evidence, completions: Sequence[Sequence[int]]) -> int:
    """Return the length of a row. A completion's last token predicts nothing and is left out."""
    return prompt_tokens(evidence) + sum(len(ids) - 1 for ids in completions)


def split_rows(
    evidence: Evidence, completions: Sequence[Sequence[int]], most_tokens: int
) -> list[Sequence[Sequence[int]]]:
    """Divide a prompt's completions over rows of at most `most_tokens`, at least one in each.

    Attention in a row grows with its square, the prompt is repeated with every row: many short
    completions belong together, long ones apart.
    """
    rows: list[Sequence[Sequence[int]]] = []
    start, length = 0, prompt_tokens(evidence)
    for at, ids in enumerate(completions):
        if at > start and length + len(ids) - 1 > most_tokens:
            rows.append(completions[start:at])
            start, length = at, prompt_tokens(evidence)
        length += len(ids) - 1
    return [*rows, completions[start:]]


def branched(
    rows: Sequence[Row], adapter: Adapter, *, pad_id: int, device: torch.device, dtype: torch.dtype
) -> Branched:
    """Return the arguments of the model's forward call for these rows, padded on the right."""
    shape = (len(rows), max(row_tokens(*row) for row in rows))
    ids_RS = torch.full(shape, pad_id)
    positions_3RS = torch.zeros(3, *shape, dtype=torch.long)
    branch_RS = torch.full(shape, -1)
    places: list[tuple[int, int]] = []
    for r, (evidence, completions) in enumerate(rows):
        ids, positions_3S, branch, columns = _laid_out(evidence, completions, adapter)
        ids_RS[r, : len(ids)] = torch.tensor(ids)
        positions_3RS[:, r, : len(ids)] = positions_3S
        branch_RS[r, : len(ids)] = torch.tensor(branch)
        places += [(r, column) for column in columns]
    inputs = {
        "input_ids": ids_RS.to(device),
        "attention_mask": _mask(branch_RS.to(device), dtype),
        "position_ids": positions_3RS.to(device),
        **visual_inputs([evidence for evidence, _ in rows], adapter, device, dtype),
    }
    where_N2 = torch.tensor(places, device=device)
    return Branched(inputs, where_N2[:, 0], where_N2[:, 1])


def _laid_out(
    evidence: Evidence, completions: Sequence[Sequence[int]], adapter: Adapter
) -> tuple[list[int], torch.Tensor, list[int], list[int]]:
    """Return a row's ids, (3, S) positions, branches (0 = prompt, 1 = first completion, ...) and
    the columns whose states predict the completions' tokens."""
    ids = full_ids(evidence, int(adapter.model_config.video_token_id))
    positions = [full_positions(evidence)]
    last, branch = len(ids) - 1, [0] * len(ids)
    columns: list[int] = []
    for number, completion in enumerate(completions, start=1):
        size = len(completion) - 1
        columns += [last, *range(len(ids), len(ids) + size)]
        positions.append(positions[0][:, -1:] + 1 + torch.arange(size))
        ids += completion[:-1]
        branch += [number] * size
    return ids, torch.cat(positions, dim=1), branch, columns


def _mask(branch_RS: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return (R, 1, S, S): 0 where a query (row) may see a key (column), else the least number.

    Additive, which eager and fused attention both take. Padding sees its prompt: a query that
    sees nothing has no softmax.
    """
    keys, queries = branch_RS[:, None, :], branch_RS[:, :, None]
    seen = ((keys == 0) | (keys == queries)).tril()
    zero = torch.zeros((), dtype=dtype, device=branch_RS.device)
    return torch.where(seen, zero, torch.finfo(dtype).min)[:, None]
