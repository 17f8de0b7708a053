"""The dual encoder's task: an event's frames and the texts that mean it come together.

An event is the mean of its frames' unit vectors, as in the memory. Texts are questions that name
one event, captions and query-like paraphrases. Another event of the batch that a text fits as
well is no negative (see `fits`).

Letters: E events, N texts, F frames, D channels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from marc_core.embed.images import pixel_values
from marc_core.embed.recipe import ImageRecipe
from marc_core.embed.transformers_encoder import text_features, tokenize
from marc_core.tiny.attributes import NO_COLOUR, NO_SHAPE, looks_of
from marc_core.tiny.config import EncoderTrainConfig
from marc_core.tiny.footage import RENDER_SIZES, step_rng, train_seed
from marc_core.tiny.models import FRAME_SIZE
from marc_core.world import (
    WorldConfig,
    WorldEvent,
    WorldVideo,
    describe_event,
    make_questions,
    object_states,
    paraphrase_event,
    render_frames,
    sample_video,
)
from marc_core.world.words import BACKGROUNDS, COLOURS, SHAPES

TEXTS_PER_EVENT = 3
MEANINGS: dict[Any, int] = {
    meaning: i
    for i, meaning in enumerate([*BACKGROUNDS, *COLOURS, *SHAPES, *product(COLOURS, SHAPES)])
}
"""Rows of the shared layer: backgrounds, colours, shapes and (colour, shape) pairs."""
_WORDS = re.compile(r"[a-z]+")


def event_texts(video: WorldVideo, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Return (event index, text): up to `TEXTS_PER_EVENT` for every event."""
    asked = make_questions(video, seed=int(rng.integers(1 << 30)), per_type=3)
    pools: dict[int, list[str]] = {e.index: [] for e in video.events}
    for question in asked:
        if len(question.named) == 1:
            pools[question.named[0]].append(question.text)
    pairs = []
    for event in video.events:
        questions = [pools[event.index][i] for i in rng.permutation(len(pools[event.index]))]
        extra = paraphrase_event(event, seed=int(rng.integers(1 << 30)))
        if rng.random() < 0.3:
            extra = describe_event(event)
        texts = [*questions[: TEXTS_PER_EVENT - 1], extra]
        pairs += [(event.index, text) for text in texts]
    return pairs


@dataclass(frozen=True, slots=True)
class Named:
    """What a text names: backgrounds, (colour, shape) pairs, lone shapes, lone colours."""

    backgrounds: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    shapes: frozenset[str]
    colours: frozenset[str]


def named_in(text: str) -> Named:
    """Return what a text names; a colour counts only before a shape or the word "object"."""
    words = _WORDS.findall(text.lower())
    pairs, shapes, colours = set(), set(), set()
    for before, word in zip(["", *words], words, strict=False):
        if word in SHAPES and before in COLOURS:
            pairs.add((before, word))
        elif word in SHAPES:
            shapes.add(word)
        elif word == "object" and before in COLOURS:
            colours.add(before)
    places = frozenset(w for w in words if w in BACKGROUNDS)
    return Named(places, frozenset(pairs), frozenset(shapes), frozenset(colours))


def seen_in(event: WorldEvent) -> Named:
    """Return what an event shows at any time."""
    pairs = {(c, s) for o in event.objects for _, c in o.colours for _, s in o.shapes}
    return Named(
        frozenset([event.background]),
        frozenset(pairs),
        frozenset(s for _, s in pairs),
        frozenset(c for c, _ in pairs),
    )


def fits(text: Named, event: Named) -> bool:
    """Say whether everything that the text names can be seen in the event."""
    return (
        text.backgrounds <= event.backgrounds
        and text.pairs <= event.pairs
        and text.shapes <= event.shapes
        and text.colours <= event.colours
    )


def meanings(things: Sequence[Named]) -> torch.Tensor:
    """Return (N, K): 1 for every background, colour, shape and pair that is named or seen."""
    rows = torch.zeros(len(things), len(MEANINGS))
    for row, named in zip(rows, things, strict=True):
        colours = named.colours | {c for c, _ in named.pairs}
        shapes = named.shapes | {s for _, s in named.pairs}
        for meaning in (*named.backgrounds, *colours, *shapes, *named.pairs):
            row[MEANINGS[meaning]] = 1
    return rows


class EncoderTask(nn.Module):
    """Contrastive training of a CLIP-like model on events and texts."""

    def __init__(
        self, model: Any, tokenizer: Any, recipe: ImageRecipe, config: EncoderTrainConfig
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.config = model, recipe, config
        self._tokenizer = tokenizer
        self._cells, width = _cells_and_width(model)
        self.heads = nn.ModuleDict(
            {
                "look": nn.Linear(width, NO_COLOUR + NO_SHAPE + 2),
                "meaning": nn.Linear(model.config.projection_dim, len(MEANINGS)),
            }
        )

    def batch(self, seed: int, step: int, rank: int) -> tuple[Any, ...]:
        """Return pixels (F, 3, H, W), event of each frame, token ids, their events, and a mask.

        Last come colour and shape of the object in each place (F, P, 2), and the meanings of
        texts and events (see `meanings`).
        """
        rng = step_rng(seed, "encoder", step, rank)
        events: list[WorldEvent] = []
        frames, owners, texts, means, looks = [], [], [], [], []
        for _ in range(self.config.videos_per_step):
            video = sample_video(train_seed(rng), WorldConfig())
            base = len(events)
            pairs = event_texts(video, rng)
            means += [base + index for index, _ in pairs]
            texts += [text for _, text in pairs]
            times = self._times(video, rng)
            size = int(rng.choice(RENDER_SIZES))
            pixels = torch.from_numpy(render_frames(video, times, size=size))
            frames.append(pixel_values(pixels, self.recipe))
            looks += [looks_of(things, self._cells) for things in object_states(video, times)]
            owners += [base + e.index for e in video.events for _ in range(self._count)]
            events += video.events
        tokens = tokenize(self._tokenizer, texts, self.model.config)
        meant = torch.tensor(means)
        shown = [seen_in(e) for e in events]
        named = [named_in(t) for t in texts]
        blocked = torch.tensor([[fits(n, e) for e in shown] for n in named])
        blocked[torch.arange(len(texts)), meant] = False
        contrast = 1.0 if step >= self.config.contrast_from * self.config.steps else 0.0
        return (
            torch.cat(frames), torch.tensor(owners), tokens["input_ids"],
            tokens["attention_mask"], meant, blocked,
            torch.stack(looks), meanings(named), meanings(shown), contrast,
        )  # fmt: skip

    @property
    def _count(self) -> int:
        return self.config.frames_per_event

    def _times(self, video: WorldVideo, rng: np.random.Generator) -> list[float]:
        return [
            float(t)
            for e in video.events
            for t in rng.uniform(e.start_s, e.end_s - 1e-3, self._count)
        ]

    def forward(
        self,
        pixels_FCHW: torch.Tensor,
        owner_F: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        meant_N: torch.Tensor,
        blocked_NE: torch.Tensor,
        looks_FP2: torch.Tensor,
        said_NK: torch.Tensor,
        shown_EK: torch.Tensor,
        contrast: float,
    ) -> tuple[Any, dict[str, float]]:
        """Return the loss and the share of texts that find their event.

        The loss is symmetric and contrastive, plus what each place shows and what events and
        texts mean, read off by linear layers. The layer of meanings is shared by both towers:
        with the contrast alone, all objects stayed one point for hundreds of steps. It begins
        at `contrast_from`: earlier it pulls apart nothing and holds the texts together.
        """
        output = self.model.vision_model(pixel_values=pixels_FCHW)
        features_FD = self.model.visual_projection(output.pooler_output).float()
        extra, metrics = self._shown(_places(output), looks_FP2)
        frames_FD = F.normalize(features_FD, dim=-1)
        num_events = blocked_NE.shape[1]
        sums_ED = frames_FD.new_zeros(num_events, frames_FD.shape[1])
        events_ED = F.normalize(sums_ED.index_add(0, owner_F, frames_FD), dim=-1)
        inputs = {"input_ids": ids, "attention_mask": mask}
        texts_ND = F.normalize(text_features(self.model, inputs).float(), dim=-1)
        scale = self.model.logit_scale.exp().clamp(max=100)
        logits_NE = (scale * texts_ND @ events_ED.T).masked_fill(blocked_NE, -1e4)
        own_N = logits_NE.gather(1, meant_N[:, None])[:, 0]
        # From an event's side, its other texts are positives, too: each is scored alone.
        mine_NN = meant_N[:, None] == meant_N[None, :]
        columns_NN = logits_NE.T[meant_N]
        others = columns_NN.masked_fill(mine_NN, -1e4)
        back_N = torch.logaddexp(others.logsumexp(1), own_N) - own_N
        loss = contrast * (F.cross_entropy(logits_NE, meant_N) + back_N.mean()) / 2
        loss = loss + self._meant(events_ED, shown_EK) + self._meant(texts_ND, said_NK)
        better = (logits_NE > own_N[:, None]).sum(1)
        found = {
            "top1": float((better < 1).float().mean()),
            "top3": float((better < 3).float().mean()),
        }
        return loss + extra, {**found, "scale": float(scale.detach()), **metrics}

    def _meant(self, vectors_ND: torch.Tensor, meanings_NK: torch.Tensor) -> torch.Tensor:
        """Return the loss of meanings read off unit vectors by the layer that both towers share."""
        logits_NK = self.heads["meaning"](10 * vectors_ND)
        loss = F.binary_cross_entropy_with_logits(logits_NK, meanings_NK, reduction="none")
        return loss.sum(1).mean() / 4

    def _shown(
        self, patches_FPD: torch.Tensor, looks_FP2: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of colour and shape read off each place, and their accuracies."""
        logits = self.heads["look"](patches_FPD.float()).flatten(0, 1)
        loss, metrics = torch.zeros((), device=logits.device), {}
        parts = torch.split(logits, [NO_COLOUR + 1, NO_SHAPE + 1], dim=1)
        for i, (name, none) in enumerate((("colour", NO_COLOUR), ("shape", NO_SHAPE))):
            wanted = looks_FP2[..., i].flatten()
            loss = loss + 3 * F.cross_entropy(parts[i], wanted)
            hit = (parts[i].argmax(1) == wanted)[wanted != none]
            metrics[name] = float(hit.float().mean())
        return loss, metrics


def _places(output: Any) -> torch.Tensor:
    """Return (F, P, D): what a convolutional tower or a ViT says of each place of the picture."""
    hidden: torch.Tensor = output.last_hidden_state
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, 1:]


def _cells_and_width(model: Any) -> tuple[int, int]:
    with torch.no_grad():
        picture = torch.zeros(1, 3, FRAME_SIZE, FRAME_SIZE)
        places = _places(model.vision_model(pixel_values=picture))
    return round(places.shape[1] ** 0.5), places.shape[2]


def encoder_recipe() -> ImageRecipe:
    """Return the tiny encoder's image recipe, that of its preprocessor_config.json."""
    return ImageRecipe(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resample="bicubic",
        size_hw=(FRAME_SIZE, FRAME_SIZE),
        patch_size=14,
    )
