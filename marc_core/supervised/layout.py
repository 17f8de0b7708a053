"""Questions that read the same tokens, in one row: their common start is computed once.

    row    |user turn, visual tokens, facts|question 1, answer 1|question 2, answer 2| ...
    sees    itself                          the start and itself  the start and itself

Every question's positions go on where the common start ends, so each is computed as if it stood
alone (see the tests). Rows of a batch lie one behind the other without padding; only attention
pads them. Of the last layer nothing but the states that predict an answer's token is computed.
(`marc_core.models.branches` does the same for a student of any size, from Evidence and without a
plan made beforehand.)

Letters: T tokens of all rows, R rows, S tokens of a row, W states wanted, H heads, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

COMMON = 0
"""Branch of the tokens that all questions of a row see; questions count from 1."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where the flat tokens of a batch lie in padded rows, and who sees whom.

    gather_RS: flat place of each token of a padded row (0 for padding). scatter_T: place of each
    flat token among the R x S padded ones. bias_R1SS: 0 where a query may see a key, else the
    least number.
    """

    gather_RS: torch.Tensor
    scatter_T: torch.Tensor
    bias_R1SS: torch.Tensor

    def to(self, device: torch.device) -> RowLayout:
        """Return the layout on `device`."""
        return RowLayout(
            self.gather_RS.to(device), self.scatter_T.to(device), self.bias_R1SS.to(device)
        )


def row_layout(branches: Sequence[NDArray[np.int16]]) -> RowLayout:
    """Return the layout of rows, given as the branch of each of their tokens."""
    longest = max(len(branch) for branch in branches)
    gather = np.zeros((len(branches), longest), dtype=np.int64)
    padded = np.full((len(branches), longest), -1, dtype=np.int64)
    scatter, start = [], 0
    for row, branch in enumerate(branches):
        size = len(branch)
        gather[row, :size] = np.arange(start, start + size)
        padded[row, :size] = branch
        scatter.append(row * longest + np.arange(size))
        start += size
    branch_RS = torch.from_numpy(padded)
    keys, queries = branch_RS[:, None, :], branch_RS[:, :, None]
    seen = ((keys == COMMON) | (keys == queries)).tril()
    bias = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]
    return RowLayout(torch.from_numpy(gather), torch.from_numpy(np.concatenate(scatter)), bias)


def rows_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: RowLayout,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of flat rows, in the form that transformers' models call.

    query, key, value: (1, H, T, D / H). Returns (1, T, H, D / H) and no weights.
    """
    groups = query.shape[1] // key.shape[1]
    q, k, v = (_padded(x, layout) for x in (query, key, value))
    k, v = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (k, v))
    scores = torch.matmul(q * scaling, k.transpose(-1, -2)).float() + layout.bias_R1SS
    made = torch.matmul(scores.softmax(-1).to(v.dtype), v).transpose(1, 2)
    flat = made.reshape(-1, *made.shape[2:]).index_select(0, layout.scatter_T)
    return flat.unsqueeze(0), None


def _padded(x_1HTd: torch.Tensor, layout: RowLayout) -> torch.Tensor:
    """Return (R, H, S, D / H)."""
    picked = x_1HTd[0].transpose(0, 1).index_select(0, layout.gather_RS.flatten())
    return picked.view(*layout.gather_RS.shape, *picked.shape[1:]).transpose(1, 2)


ALL_ATTENTION_FUNCTIONS.register("rows", rows_attention)


def wanted_states(
    language: Any,
    embeds_TD: torch.Tensor,
    positions_3T: torch.Tensor,
    layout: RowLayout,
    wanted_W: torch.Tensor,
) -> torch.Tensor:
    """Return the (W, D) final states of the tokens at `wanted_W`.

    language: the text model of a Qwen2.5-VL checkpoint.
    """
    hidden = embeds_TD.unsqueeze(0)
    rotary = language.rotary_emb(hidden, positions_3T.unsqueeze(1))
    before = language.config._attn_implementation
    language.config._attn_implementation = "rows"
    try:
        for layer in language.layers[:-1]:
            hidden = layer(hidden, position_embeddings=rotary, layout=layout, use_cache=False)
    finally:
        language.config._attn_implementation = before
    last = _last_layer(language.layers[-1], hidden, rotary, layout, wanted_W)
    states_WD: torch.Tensor = language.norm(last)
    return states_WD


def _last_layer(
    layer: Any,
    hidden_1TD: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    layout: RowLayout,
    wanted_W: torch.Tensor,
) -> torch.Tensor:
    """Return the (W, D) outputs of a decoder layer for the tokens that are wanted."""
    attention = layer.self_attn
    normed_TD = layer.input_layernorm(hidden_1TD)[0]
    picked = hidden_1TD[0].index_select(0, wanted_W)
    heads = (1, -1, attention.num_heads, attention.head_dim)
    shared = (1, -1, attention.num_key_value_heads, attention.head_dim)
    q = attention.q_proj(normed_TD.index_select(0, wanted_W)).view(heads).transpose(1, 2)
    k = attention.k_proj(normed_TD).view(shared).transpose(1, 2)
    v = attention.v_proj(normed_TD).view(shared).transpose(1, 2)
    k, _ = apply_rotary_pos_emb(k, k, *rotary)
    q, _ = apply_rotary_pos_emb(q, q, *(x.index_select(1, wanted_W) for x in rotary))
    places_W = layout.scatter_T.index_select(0, wanted_W)
    longest = layout.gather_RS.shape[1]
    row_W, column_W = places_W // longest, places_W % longest
    keys, values = (_padded(x, layout).index_select(0, row_W) for x in (k, v))  # (W, H, S, d)
    groups = attention.num_heads // attention.num_key_value_heads
    keys, values = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (keys, values))
    bias_W1S = layout.bias_R1SS[row_W, 0, column_W].unsqueeze(1)
    q_WHd = q[0].transpose(0, 1) * attention.scaling
    scores_WHS = torch.matmul(keys, q_WHd.unsqueeze(-1))[..., 0].float() + bias_W1S
    weights = scores_WHS.softmax(-1).to(values.dtype).unsqueeze(2)
    mixed_WD = torch.matmul(weights, values).flatten(1)
    after = picked + attention.o_proj(mixed_WD)
    made: torch.Tensor = after + layer.mlp(layer.post_attention_layernorm(after))
    return made
