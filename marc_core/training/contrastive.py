"""The dual encoder's task: an event's frames and the texts that mean it come together.

An event is the mean of its frames' unit vectors, as in the memory. Texts are questions that name
one event, captions and query-like paraphrases. Another event of the batch that a text fits as
well is no negative (see `fits`).

Letters: E events, N texts, F frames, D channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from marc_core.embed.images import ImageRecipe, pixel_values
from marc_core.embed.transformers_encoder import image_features, text_features, tokenize
from marc_core.training.config import EncoderTrainConfig
from marc_core.training.footage import RENDER_SIZES, step_rng, train_seed
from marc_core.training.tiny_models import FRAME_SIZE
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
PAIR_IDS = {pair: i for i, pair in enumerate(product(COLOURS, SHAPES))}
PLACE_IDS = {name: i for i, name in enumerate(BACKGROUNDS)}
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


class EncoderTask(nn.Module):
    """Contrastive training of a CLIP-like model on events and texts."""

    def __init__(
        self, model: Any, tokenizer: Any, recipe: ImageRecipe, config: EncoderTrainConfig
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.config = model, recipe, config
        self._tokenizer = tokenizer
        self.heads = nn.Linear(model.config.projection_dim, len(PAIR_IDS) + len(PLACE_IDS))

    def batch(self, seed: int, step: int, rank: int) -> tuple[Any, ...]:
        """Return pixels (F, 3, H, W), event of each frame, token ids, their events, and a mask.

        Last come what each frame shows: (colour, shape) pairs (F, 48) and backgrounds (F,).
        """
        rng = step_rng(seed, "encoder", step, rank)
        events: list[WorldEvent] = []
        frames, owners, texts, means, pairs_seen, places = [], [], [], [], [], []
        for _ in range(self.config.videos_per_step):
            video = sample_video(train_seed(rng), WorldConfig())
            base = len(events)
            named = event_texts(video, rng)
            means += [base + index for index, _ in named]
            texts += [text for _, text in named]
            times = self._times(video, rng)
            size = int(rng.choice(RENDER_SIZES))
            pixels = torch.from_numpy(render_frames(video, times, size=size))
            frames.append(pixel_values(pixels, self.recipe))
            pairs_seen.append(_pairs_seen(video, times))
            places += [PLACE_IDS[e.background] for e in video.events for _ in range(self._count)]
            owners += [base + e.index for e in video.events for _ in range(self._count)]
            events += video.events
        tokens = tokenize(self._tokenizer, texts, self.model.config)
        meant = torch.tensor(means)
        shown = [seen_in(e) for e in events]
        blocked = torch.tensor([[fits(named, e) for e in shown] for named in map(named_in, texts)])
        blocked[torch.arange(len(texts)), meant] = False
        return (
            torch.cat(frames), torch.tensor(owners), tokens["input_ids"],
            tokens["attention_mask"], meant, blocked,
            torch.cat(pairs_seen), torch.tensor(places),
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
        pairs_FK: torch.Tensor,
        place_F: torch.Tensor,
    ) -> tuple[Any, dict[str, float]]:
        """Return the loss and the share of texts that find their event.

        The loss is symmetric and contrastive, plus what each frame shows, read off its embedding
        by a linear layer (our choice: with the contrast alone, shapes took many times longer).
        """
        features_FD = image_features(self.model, pixels_FCHW, self.recipe).float()
        said_FK, place_logits = self.heads(features_FD).split([len(PAIR_IDS), len(PLACE_IDS)], 1)
        extra = 10 * F.binary_cross_entropy_with_logits(said_FK, pairs_FK)
        extra = extra + 0.3 * F.cross_entropy(place_logits, place_F)
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
        loss = (F.cross_entropy(logits_NE, meant_N) + back_N.mean()) / 2
        found = (logits_NE.detach().argmax(1) == meant_N).float().mean()
        metrics = {
            "found": float(found),
            "scale": float(scale.detach()),
            "extra": float(extra.detach()),
        }
        return loss + extra, metrics


def _pairs_seen(video: WorldVideo, times_s: list[float]) -> torch.Tensor:
    """Return (F, 48): 1 where a (colour, shape) is visible at that time."""
    seen_FK = torch.zeros(len(times_s), len(PAIR_IDS))
    for row, things in zip(seen_FK, object_states(video, times_s), strict=True):
        for thing in things:
            if thing.visible:
                row[PAIR_IDS[thing.colour, thing.shape]] = 1
    return seen_FK


def encoder_recipe() -> ImageRecipe:
    """Return the tiny encoder's image recipe, that of its preprocessor_config.json."""
    return ImageRecipe(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resample="bicubic",
        size_hw=(FRAME_SIZE, FRAME_SIZE),
        patch_size=14,
    )
