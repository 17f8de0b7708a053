"""Visual tokens in the words of the language model: the heads of the vision stage, folded in.

After the vision stage, heads read colours, shapes, places and motion off each visual token, but
most of them along directions of little variance, which attention finds late or never ("which
colour is the ring?" stood at chance for 1,000 steps). The heads are linear, and so is the end of
the tower: so the tower's last layer is replaced by last layer -> heads -> embeddings of the words
that the heads stand for. A token that shows a red ring starts as about "red" + "ring" + "forest"
in the language model's own space. Our choice; the paper starts from a trained model.

Letters: T tokens, K outputs of the heads, D channels of the language model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch

from marc_core.tiny.attributes import HEAD_SIZES, NO_COLOUR, NO_SHAPE, AttributeHeads
from marc_core.world.words import BACKGROUNDS, COLOURS, SHAPES

PARTS = (*HEAD_SIZES[:-1], HEAD_SIZES[-1] - 2, 2, 1, 1)
"""Outputs that get one weight: both frames' colours and shapes, background, pairs, geometry,
motion; then two differences between both frames: growth, and appearance."""
WEIGHTS = (2.0, 2.0, 2.0, 2.0, 5.0, 0.6, 0.3, 3.0, 3.0, 3.0)
"""Share of each part in a token. Background's and motion's make up for the size of the others'
logits where an object is: with 0.5 and 1 the right place was the nearest word for 30 % of the
tokens with an object and the right direction for 65 % of those with a moving one; with 5 and 3,
94 and 91 %. Colour and shape, both right: 95 %."""
_RADIUS = (sum(HEAD_SIZES[:-1]) + 2, sum(HEAD_SIZES[:-1]) + 5)
_NOTHING = (NO_COLOUR, NO_COLOUR + 1 + NO_SHAPE + 1 + NO_COLOUR)


@torch.no_grad()
def fold_heads(
    student: Any, tokenizer: Any, heads: AttributeHeads, tokens_TD: torch.Tensor
) -> None:
    """Change the last layer of `student`'s tower in place.

    tokens_TD: sample of the tower's output, by which every head is brought to one scale and the
    tokens to the mean length of a word's embedding.
    """
    embeddings = student.model.language_model.embed_tokens.weight.float().cpu()
    words_KD = head_words(embeddings, tokenizer)
    reading_KD, offset_K = _readings(heads)
    tokens_TD = tokens_TD.float().cpu()
    read_TK = tokens_TD @ reading_KD.T + offset_K
    spread_K = torch.cat(
        [p.std(0).mean().expand(p.shape[1]) for p in torch.split(read_TK, list(PARTS), 1)]
    )
    share_K = torch.cat([torch.full((n,), w) for n, w in zip(PARTS, WEIGHTS, strict=True)])
    to_words_DK = (words_KD * (share_K / spread_K)[:, None]).T
    weight = to_words_DK @ reading_KD
    bias = to_words_DK @ (offset_K - read_TK.mean(0))
    made = tokens_TD @ weight.T + bias
    scale = embeddings.norm(dim=1).mean() / made.norm(dim=1).mean()
    last = student.model.visual.merger.mlp[-1]
    last.bias.copy_(scale * (weight @ last.bias.float().cpu() + bias))
    last.weight.copy_(scale * weight @ last.weight.float().cpu())


def _readings(heads: AttributeHeads) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (K, D) and (K,): what is read off a token, as one linear layer: heads, differences.

    From every head but geometry goes the mean of its logits, which says nothing under softmax and
    would drown the rest.
    """
    blocks = [torch.eye(n) - 1.0 / n for n in HEAD_SIZES[:-1]]
    centre: torch.Tensor = torch.block_diag(*blocks, torch.eye(HEAD_SIZES[-1]))  # type: ignore[no-untyped-call]
    grows, appears = torch.zeros(2, len(centre))
    grows[list(_RADIUS)] = torch.tensor([-1.0, 1.0])
    appears[list(_NOTHING)] = torch.tensor([1.0, -1.0])
    rows = torch.cat([centre, grows[None], appears[None]])
    linear = copy.deepcopy(heads.linear).float().cpu()
    return rows @ linear.weight, rows @ linear.bias


def head_words(embeddings_VD: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """Return (K, D): what each reading is in the language model's space.

    Pairs are colour + shape; looks in the first and in the second frame are the words turned by a
    fixed rotation each, so that a change shows; the way to the second frame is right - left and
    down - up, growth is grows - shrinks, appearance is appears - vanishes; what has no word is a
    fixed random direction.
    """
    width = embeddings_VD.shape[1]
    generator = torch.Generator().manual_seed(0)

    def noise(count: int) -> torch.Tensor:
        rows = torch.randn(count, width, generator=generator)
        rows *= (embeddings_VD.norm(dim=1).mean() / rows.norm(dim=1))[:, None]
        return rows

    def words(names: Iterable[str]) -> torch.Tensor:
        return embeddings_VD[[tokenizer.convert_tokens_to_ids(n) for n in names]]

    colours, shapes, places = words(COLOURS), words(SHAPES), words(BACKGROUNDS)
    looks = []
    for _ in ("first frame", "second frame"):
        turn = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        looks += [colours @ turn, noise(1), shapes @ turn, noise(1)]
    pairs = (colours[:, None] + shapes[None]).flatten(0, 1)
    right, left, down, up = words(("right", "left", "down", "up"))
    geometry = noise(HEAD_SIZES[-1])
    geometry[-2:] = torch.stack([right - left, down - up])
    grows, shrinks, appears, vanishes = words(("grows", "shrinks", "appears", "vanishes"))
    changes = torch.stack([grows - shrinks, appears - vanishes])
    return torch.cat([*looks, places, pairs, geometry, changes])
