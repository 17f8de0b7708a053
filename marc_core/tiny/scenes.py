"""Deep supervision of the language model: what a visual token should know of the video so far.

Answers alone teach relations in time slowly: "what comes after the forest?" needs tokens that
remember the scene before, and only the last step of that chain is rewarded. So linear heads on
the visual tokens' states in the middle of the model, thrown away afterwards, read there

    before   background and looks of the scene before, what its main object did
    here     looks seen in this scene so far
    when     seconds since the video's and since the scene's start, number of the scene
    done     at the scene's last group: what its main object did, how many objects there were

and, in a later layer, where the answer is about to be written, pointers: which scenes the question
names, which hold the answer, and what places these are.

Our choice, after deeply supervised nets (Lee et al. 2015); the paper starts from a trained model.

Letters: T groups, P tokens of a group, N visual tokens, D channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from marc_core.tiny.attributes import COLOUR_IDS, NO_SHAPE, PLACE_IDS, SHAPE_IDS
from marc_core.tiny.footage import GroupedVideo
from marc_core.world import Question, WorldEvent
from marc_core.world.words import ACTIONS

NUM_LOOKS = len(COLOUR_IDS) + len(SHAPE_IDS) + len(COLOUR_IDS) * len(SHAPE_IDS)
"""Colours, shapes and pairs of both that a scene shows. Pairs alone were not read at all after
300 steps, at a fifth of the weight: a sum of tokens says which colours and shapes there are, not
which belong together."""
NUM_SCENES, NUM_COUNTS = 8, 5
HEADS = {
    "place_before": len(PLACE_IDS) + 1,
    "looks_before": NUM_LOOKS,
    "action_before": len(ACTIONS) + 1,
    "looks_here": NUM_LOOKS,
    "scene": NUM_SCENES,
    "seconds": 2,
    "action": len(ACTIONS),
    "count": NUM_COUNTS,
}
"""Outputs of the heads; of "before", the last class is that of the video's first scene."""
POINTERS = {"named": NUM_SCENES, "meant": NUM_SCENES, "place_meant": len(PLACE_IDS)}
"""Outputs of the pointers, several of which may be right at once."""
POINTERS_WEIGHT = 4.0
"""Of about ten outputs one or two are there."""
LOOKS_WEIGHT, PRESENT_WEIGHT = 10.0, 3.0
"""Of 62 looks about six are there: weight of their mean loss, and of those that are there."""
SECONDS_SCALE = (10.0, 5.0)
"""Seconds by which both times are divided."""


def make_readers(width: int) -> nn.ModuleDict:
    """Return the readers of scenes and of pointers, for states of `width` channels."""
    return nn.ModuleDict({"scenes": Reader(width, HEADS), "pointers": Reader(width, POINTERS)})


@dataclass(frozen=True, slots=True)
class SceneTargets:
    """Targets of T groups. seconds_T2: see SECONDS_SCALE. last_T: the scene's last groups."""

    place_before_T: torch.Tensor
    looks_before_TK: torch.Tensor
    action_before_T: torch.Tensor
    looks_here_TK: torch.Tensor
    scene_T: torch.Tensor
    seconds_T2: torch.Tensor
    action_T: torch.Tensor
    count_T: torch.Tensor
    last_T: torch.Tensor


class Reader(nn.Module):
    """One linear layer behind a norm, cut into named heads."""

    def __init__(self, width: int, sizes: dict[str, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.norm = nn.RMSNorm(width)
        self.linear = nn.Linear(width, sum(sizes.values()))

    def forward(self, states_ND: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits or values (N, K) of every head."""
        values = self.linear(self.norm(states_ND.float()))
        parts = torch.split(values, list(self.sizes.values()), dim=-1)
        return dict(zip(self.sizes, parts, strict=True))


def scene_targets(footage: GroupedVideo) -> SceneTargets:
    """Return what each group's tokens should know."""
    events = footage.video.events
    owners = [int(e) for e in footage.event_T]
    before = [events[e - 1] if e else None for e in owners]
    times_T = torch.from_numpy(footage.group_times_T)
    starts_T = torch.tensor([events[e].start_s for e in owners])
    seconds = [times_T / SECONDS_SCALE[0], (times_T - starts_T) / SECONDS_SCALE[1]]
    until = [float(t) for t in footage.times_T2[:, 1]]
    here = [_looks([events[e]], until=t) for e, t in zip(owners, until, strict=True)]
    return SceneTargets(
        torch.tensor([PLACE_IDS[b.background] if b else len(PLACE_IDS) for b in before]),
        torch.stack([_looks([b] if b else []) for b in before]),
        torch.tensor([_action(b) if b else len(ACTIONS) for b in before]),
        torch.stack(here),
        torch.tensor(owners).clamp(max=NUM_SCENES - 1),
        torch.stack(seconds, dim=1).float(),
        torch.tensor([_action(events[e]) for e in owners]),
        torch.tensor([len(events[e].objects) for e in owners]).clamp(max=NUM_COUNTS - 1),
        torch.tensor([i + 1 == len(owners) or owners[i + 1] != e for i, e in enumerate(owners)]),
    )


def _action(event: WorldEvent) -> int:
    return ACTIONS.index(event.objects[0].action)


def _looks(events: Sequence[WorldEvent], until: float = float("inf")) -> torch.Tensor:
    """Return (62,): colours, shapes, pairs that the events showed up to a time, as at first."""
    looks = torch.zeros(NUM_LOOKS)
    first_pair = len(COLOUR_IDS) + len(SHAPE_IDS)
    for event in events:
        for thing in event.objects:
            shown_s = next((s for s, on in thing.shown if on), float("inf"))
            if event.start_s + shown_s <= until:
                colour, shape = COLOUR_IDS[thing.colour], SHAPE_IDS[thing.shape]
                seen = [colour, len(COLOUR_IDS) + shape, first_pair + colour * NO_SHAPE + shape]
                looks[seen] = 1
    return looks


def scene_loss(
    heads: dict[str, torch.Tensor], targets: Sequence[SceneTargets], tokens: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the summed loss and the accuracies. tokens: visual tokens of a group (P).

    heads: of all tokens of the targets' groups, in order, (T * P, K) each.
    """

    def all_of(name: str) -> torch.Tensor:
        joined = torch.cat([getattr(t, name) for t in targets])
        return joined.repeat_interleave(tokens, dim=0).to(heads["scene"].device)

    last = all_of("last_T")
    classes = {
        "place_before": (heads["place_before"], all_of("place_before_T")),
        "action_before": (heads["action_before"], all_of("action_before_T")),
        "scene": (heads["scene"], all_of("scene_T")),
        "action": (heads["action"][last], all_of("action_T")[last]),
        "count": (heads["count"][last], all_of("count_T")[last]),
    }
    loss = torch.zeros((), device=last.device)
    metrics: dict[str, float] = {}
    for name, (logits, wanted) in classes.items():
        loss = loss + F.cross_entropy(logits, wanted)
        metrics[name] = float((logits.argmax(-1) == wanted).float().mean())
    for name in ("looks_before", "looks_here"):
        wanted = all_of(f"{name}_TK")
        loss = loss + LOOKS_WEIGHT * _presence_loss(heads[name], wanted)
        found = (heads[name].detach() > 0) & (wanted > 0)
        metrics[name] = float(found.sum() / wanted.sum().clamp(min=1))
    error = F.smooth_l1_loss(heads["seconds"], all_of("seconds_T2"), beta=0.1)
    metrics["seconds_error"] = float(error.detach())
    return loss + error, metrics


def pointer_targets(footage: GroupedVideo, question: Question) -> torch.Tensor:
    """Return (K,) for one question: the outputs of `POINTERS`, one behind the other.

    The answer is in the evidence that the question does not name, or else in what it names.
    """
    meant = set(question.evidence) - set(question.named) or set(question.evidence)
    parts = {name: torch.zeros(size) for name, size in POINTERS.items()}
    for name, events in (("named", question.named), ("meant", meant)):
        parts[name][[min(e, NUM_SCENES - 1) for e in events]] = 1
    parts["place_meant"][[PLACE_IDS[footage.video.events[e].background] for e in meant]] = 1
    return torch.cat(list(parts.values()))


def pointer_loss(
    heads: dict[str, torch.Tensor], targets_NK: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of pointers at N answer tokens, and how often the strongest is right."""
    wanted = torch.split(targets_NK, list(POINTERS.values()), dim=-1)
    loss = torch.zeros((), device=targets_NK.device)
    metrics: dict[str, float] = {}
    for (name, logits), right in zip(heads.items(), wanted, strict=True):
        loss = loss + POINTERS_WEIGHT * _presence_loss(logits, right)
        strongest = right.gather(1, logits.detach().argmax(-1, keepdim=True))[:, 0]
        metrics[name] = float(strongest.sum() / right.any(-1).sum().clamp(min=1))
    return loss, metrics


def _presence_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    weight = torch.tensor(PRESENT_WEIGHT, device=wanted.device)
    return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)


@contextmanager
def states_of(layer: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what a layer of the language model returns inside the block, (1, S, D) each."""
    states: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    hook = layer.register_forward_hook(keep)
    try:
        yield states
    finally:
        hook.remove()
