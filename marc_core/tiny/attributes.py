"""The vision stage: each visual token says what is in its cell of the picture.

Linear heads on the merger's output, thrown away afterwards. Starting the language model on a
tower that does not see yet stalls (docs/tiny.md), and this is minutes.

Letters: T groups, P tokens (cells) of a group, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from marc_core.tiny.footage import GroupedVideo
from marc_core.world import ObjectState, object_states
from marc_core.world.words import BACKGROUNDS, COLOURS, SHAPES

COLOUR_IDS = {c: i for i, c in enumerate(COLOURS)}
SHAPE_IDS = {s: i for i, s in enumerate(SHAPES)}
PLACE_IDS = {b: i for i, b in enumerate(BACKGROUNDS)}
NO_COLOUR, NO_SHAPE = len(COLOURS), len(SHAPES)
CELLS = 3
"""Cells on a side: tokens of an 84 x 84 frame."""
HEAD_SIZES = (NO_COLOUR + 1, NO_SHAPE + 1) * 2 + (len(BACKGROUNDS), NO_COLOUR * NO_SHAPE, 8)
"""Outputs of the heads: colour and shape in both frames, background, pairs, geometry."""
MOVES = 0.2
"""Way between both frames, in fifths of the side, from which a thing counts as moving."""
_MIDDLE = (0.5, 0.5, 0.12)
_SCALE = (0.28, 0.28, 0.04)


class AttributeHeads(nn.Module):
    """One linear layer, cut into heads: looks in both frames, background, pairs, geometry."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, sum(HEAD_SIZES))

    def forward(self, features_TPD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits or values (T, P, K) of every head."""
        return torch.split(self.linear(features_TPD.float()), list(HEAD_SIZES), dim=-1)


def attribute_targets(footage: GroupedVideo) -> tuple[torch.Tensor, ...]:
    """Return classes (T, P, 4) and (T,), pairs (T, P, 48), geometry (T, P, 8) with its mask.

    Classes: colour and shape of the object whose centre is in the cell, in both frames.
    Geometry: x, y, radius in both frames and the way from the first to the second.
    """
    num_groups, cells = len(footage.event_T), CELLS * CELLS
    looks = np.tile([NO_COLOUR, NO_SHAPE, NO_COLOUR, NO_SHAPE], (num_groups, cells, 1))
    pairs = np.zeros((num_groups, cells, NO_COLOUR * NO_SHAPE), np.float32)
    values = np.full((num_groups, cells, 8), np.nan, np.float32)
    states = object_states(footage.video, [float(t) for t in footage.times_T2.ravel()])
    for g in range(num_groups):
        first, second = states[2 * g], states[2 * g + 1]
        for frame, here in enumerate((first, second)):
            for thing in here:
                if not thing.visible:
                    continue
                cell = cell_of(thing)
                colour, shape = COLOUR_IDS[thing.colour], SHAPE_IDS[thing.shape]
                looks[g, cell, 2 * frame : 2 * frame + 2] = colour, shape
                pairs[g, cell, colour * NO_SHAPE + shape] = 1
                at = 3 * frame
                place = (thing.x, thing.y, thing.radius)
                values[g, cell, at : at + 3] = [
                    (v - m) / s for v, m, s in zip(place, _MIDDLE, _SCALE, strict=True)
                ]
                if frame == 0:
                    later = second[thing.index]
                    values[g, cell, 6:8] = (later.x - thing.x) * 5, (later.y - thing.y) * 5
    places = [PLACE_IDS[footage.video.events[e].background] for e in footage.event_T]
    return (
        torch.from_numpy(looks), torch.tensor(places), torch.from_numpy(pairs),
        torch.from_numpy(values),
    )  # fmt: skip


def cell_of(thing: ObjectState, cells: int = CELLS) -> int:
    """Return which of `cells` x `cells` cells, in raster order, holds the object's centre."""
    column, row = (min(cells - 1, max(0, int(v * cells))) for v in (thing.x, thing.y))
    return row * cells + column


def looks_of(things: Sequence[ObjectState], cells: int) -> torch.Tensor:
    """Return (cells * cells, 2): colour and shape class of the object centred in each cell."""
    looks = torch.tensor([NO_COLOUR, NO_SHAPE]).repeat(cells * cells, 1)
    for thing in things:
        if thing.visible:
            ids = (COLOUR_IDS[thing.colour], SHAPE_IDS[thing.shape])
            looks[cell_of(thing, cells)] = torch.tensor(ids)
    return looks


def attribute_loss(
    heads: tuple[torch.Tensor, ...], targets: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the summed loss and the accuracies on cells with an object."""
    looks, places, pairs, values = targets
    loss = torch.zeros(())
    metrics: dict[str, float] = {}
    for i, name in enumerate(("colour", "shape", "colour_after", "shape_after")):
        wanted = looks[..., i].flatten()
        logits = heads[i].flatten(0, 1)
        loss = loss + F.cross_entropy(logits, wanted)
        there = wanted < (NO_SHAPE if i % 2 else NO_COLOUR)
        hit = (logits.argmax(-1) == wanted)[there]
        metrics[name] = float(hit.float().mean())
    cells = heads[4].shape[1]
    loss = loss + 0.3 * F.cross_entropy(heads[4].flatten(0, 1), places.repeat_interleave(cells))
    metrics["background"] = float((heads[4].mean(1).argmax(-1) == places).float().mean())
    loss = loss + 10 * F.binary_cross_entropy_with_logits(heads[5], pairs)
    known = values[..., :6].isfinite()
    error = F.smooth_l1_loss(heads[6][..., :6][known], values[..., :6][known], beta=0.2)
    metrics["geometry_error"] = float(error.detach())
    motion, metrics["direction"] = _motion_loss(heads[6][..., 6:], values[..., 6:])
    return loss + error + motion, metrics


def _motion_loss(predicted_TP2: torch.Tensor, way_TP2: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the loss of the way between both frames, and how often its main direction is right.

    Things that move count on their own: among all the still ones they are a rounding error.
    """
    there = way_TP2.isfinite().all(-1)
    predicted_N2, way_N2 = predicted_TP2[there], way_TP2[there]
    moves = way_N2.abs().sum(-1) > MOVES
    loss = predicted_N2.sum() * 0
    for chosen, weight in ((moves, 2.0), (~moves, 0.5)):
        if chosen.any():
            error = F.smooth_l1_loss(predicted_N2[chosen], way_N2[chosen], beta=0.2)
            loss = loss + weight * error
    axis_N1 = way_N2[moves].abs().argmax(-1, keepdim=True)
    right = predicted_N2[moves].gather(1, axis_N1).sign() == way_N2[moves].gather(1, axis_N1).sign()
    same = predicted_N2[moves].abs().argmax(-1, keepdim=True) == axis_N1
    return loss, float((right & same).float().mean()) if len(right) else 0.0
