"""First weights of the student's attention: it can look a word up in the video.

Visual tokens are sums of words after the fold (`align`), so a question is answered by attention
from its words to the visual tokens that hold them. Random weights find that late: asked for
colours only, these first weights were after 50 steps where random ones were not after 200
(docs/tiny.md). Our choice; the idea is mimetic initialisation (Trockman and Kolter 2023): begin
near what trained attention looks like.

Every embedding gets a mark, one direction in common, which visual tokens lack. In every layer:

    heads 0, 1 gather   text keys only (mark), near ones most; values are copied
    heads 2, 3 match    other keys only; key and query in the same projection, so that what is
                        alike attracts; values are copied

Measured before training: the first layer does this. From the second on, words that have gathered
the same question are so alike that matching heads see mostly each other; a mark twelve times as
heavy there keeps them on the video, but was no sooner in 200 steps of another mixture.

All of it is trained like other weights. Letters: D channels, K dimensions of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

READING_LAYERS = 4
"""Layers that start as readers; those behind them start as identities."""
GATHER, MATCH = (0, 1), (2, 3)
"""Heads of every layer."""
MARK = 0.7
"""Length of the mark; embeddings have about 1."""
MARK_WEIGHT, SHARPNESS, COPY = 5.0, 2.5, 0.7
"""Weights of the mark in scores, of likeness in scores, of values; a handful of
combinations was tried, not a search."""
NEAR = 1.5
"""Weight of nearness in the scores of gathering heads."""


@torch.no_grad()
def start_reading(student: Any) -> None:
    """Add the mark and the heads' first weights to a freshly initialised student, in place."""
    model = student.model.language_model
    mark_D = nn.functional.normalize(torch.randn(model.config.hidden_size), dim=0)
    model.embed_tokens.weight += MARK * mark_D
    time_pairs = model.config.rope_parameters["mrope_section"][0]
    for layer in model.layers[:READING_LAYERS]:
        heads = _Heads(layer.self_attn, layer.self_attn.head_dim, time_pairs)
        for group in (GATHER, MATCH):
            directions_DD = _directions(mark_D)
            for number, head in enumerate(group):
                heads.copy(head, directions_DD, number)
        directions_DD = _directions(mark_D)
        for number, head in enumerate(MATCH):
            heads.see_only(head, -mark_D)
            heads.attract(head, directions_DD, number)
        for head in GATHER:
            heads.see_only(head, mark_D)
            heads.prefer_near(head)


@torch.no_grad()
def start_resting(student: Any) -> None:
    """Let the layers behind the reading ones add nothing at first, in place."""
    for layer in student.model.language_model.layers[READING_LAYERS:]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


def _directions(mark_D: torch.Tensor) -> torch.Tensor:
    """Return (D - 1, D): orthonormal random rows, all at right angles to the mark."""
    random_DD = torch.randn(len(mark_D), len(mark_D))
    random_DD[:, 0] = mark_D
    return torch.as_tensor(torch.linalg.qr(random_DD)[0].T[1:])


@dataclass(frozen=True)
class _Heads:
    """Weights of one layer's attention. time_pairs: rotary pairs that turn with time."""

    attention: Any
    dim: int
    time_pairs: int

    def see_only(self, head: int, direction_D: torch.Tensor) -> None:
        """Raise the scores of keys along a direction, in the pair that turns least."""
        at = head * self.dim + self.dim // 2 - 1
        self.attention.q_proj.bias[at] += MARK_WEIGHT
        self.attention.k_proj.weight[at] += direction_D

    def prefer_near(self, head: int) -> None:
        """Raise the scores of near keys, in time's slowest pair (half at about 20 tokens)."""
        at = head * self.dim + self.time_pairs - 1
        for projection in (self.attention.q_proj, self.attention.k_proj):
            projection.bias[at] += (NEAR * self.dim**0.5) ** 0.5

    def attract(self, head: int, directions_DD: torch.Tensor, number: int) -> None:
        """Raise the scores of keys like the query, in pairs that hardly turn in 200 tokens."""
        half = self.dim // 2
        still = torch.arange(3 * half // 8, half - 1)
        at = head * self.dim + torch.cat([still, still + half])
        rows_KD = directions_DD[number * len(at) : (number + 1) * len(at)]
        for projection in (self.attention.q_proj, self.attention.k_proj):
            projection.weight[at] += SHARPNESS * rows_KD

    def copy(self, head: int, directions_DD: torch.Tensor, number: int) -> None:
        """Add what the head attends to, along its directions, to the token."""
        at = slice(head * self.dim, (head + 1) * self.dim)
        rows_KD = directions_DD[number * self.dim : (number + 1) * self.dim]
        self.attention.v_proj.weight[at] += COPY * rows_KD
        self.attention.o_proj.weight[:, at] += COPY * rows_KD.T
