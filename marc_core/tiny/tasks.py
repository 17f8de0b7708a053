"""Training tasks: from (seed, step, rank) to a loss. The loop and Ray know nothing else.

VisionTask    world video -> patches -> tower -> attribute heads
LanguageTask  world video -> patches -> tower -> packed questions -> answer loss
EncoderTask   events' frames and texts -> contrastive loss
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from marc_core.models.preprocess import pixel_settings
from marc_core.tiny.align import fold_heads
from marc_core.tiny.attributes import AttributeHeads, attribute_loss, attribute_targets
from marc_core.tiny.config import MOVERS, StageConfig
from marc_core.tiny.footage import (
    RENDER_SIZES,
    GroupedVideo,
    make_footage,
    one_group_each,
    patches_of,
    step_rng,
    train_seed,
)
from marc_core.tiny.packing import IGNORE, PackedBatch, PackedTurns, answer_hidden, pack
from marc_core.tiny.scenes import (
    make_readers,
    pointer_loss,
    scene_loss,
    scene_targets,
    states_of,
)
from marc_core.tiny.turns import make_sample
from marc_core.tiny.vision_batch import encode_groups
from marc_core.world import WorldConfig

Metrics = dict[str, float]
FOLD_STEP, FOLD_BATCHES = 1_000_000_000, 6
"""Batches, apart from those of training, from which the spread of the heads' outputs is taken."""
GRID_HW = (6, 6)
"""Patches of an 84 x 84 frame."""


def draw_footage(stage: StageConfig, rng: np.random.Generator) -> GroupedVideo:
    """Return a random training video of a stage."""
    low, high = stage.min_scenes, stage.max_scenes
    if rng.random() < stage.single_share:
        low = high = 1
    elif stage.long_share and rng.random() < stage.long_share:
        low, high = high, stage.long_scenes
    config = WorldConfig(min_scenes=low, max_scenes=high)
    return make_footage(train_seed(rng), config, size=int(rng.choice(RENDER_SIZES)))


class VisionTask(nn.Module):
    """The vision tower against per-token attributes."""

    def __init__(self, student: Any, tokenizer: Any, stage: StageConfig) -> None:
        super().__init__()
        self.visual = student.model.visual
        self.heads = AttributeHeads(student.config.vision_config.out_hidden_size)
        self.stage, self.settings = stage, pixel_settings(student.config)
        self._whole = (student, tokenizer)

    def finish(self, seed: int) -> None:
        """Fold the heads into the tower, so that the language model can read it."""
        student, tokenizer = self._whole
        with torch.no_grad():
            batches = [self.batch(seed, FOLD_STEP + i, 0)[0] for i in range(FOLD_BATCHES)]
            patches = torch.cat(batches).to(next(self.parameters()).device)
            tokens = encode_groups(self.visual, patches, GRID_HW).flatten(0, 1)
        fold_heads(student, tokenizer, self.heads, tokens)

    def batch(self, seed: int, step: int, rank: int) -> tuple[Any, ...]:
        """Return the patches and targets of one step; in every second video something moves."""
        rng = step_rng(seed, self.stage.name, step, rank)
        low, high = self.stage.min_scenes, self.stage.max_scenes
        objects: dict[str, Any] = {"min_objects": 2, "max_objects": 4}
        every = WorldConfig(min_scenes=low, max_scenes=high, **objects)
        movers = WorldConfig(min_scenes=low, max_scenes=high, actions=MOVERS, **objects)
        videos = [
            one_group_each(
                train_seed(rng),
                movers if i % 2 else every,
                size=int(rng.choice(RENDER_SIZES)),
                rng=rng,
            )
            for i in range(self.stage.videos_per_step)
        ]
        targets = [attribute_targets(v) for v in videos]
        patches = torch.cat([patches_of(v, self.settings) for v in videos])
        return patches, *(torch.cat(parts) for parts in zip(*targets, strict=True))

    def forward(self, patches_TNC: torch.Tensor, *targets: torch.Tensor) -> tuple[Any, Metrics]:
        """Return the loss and accuracies."""
        features = encode_groups(self.visual, patches_TNC, GRID_HW)
        return attribute_loss(self.heads(features), targets)


class LanguageTask(nn.Module):
    """Packed questions about whole videos."""

    def __init__(
        self, student: Any, tokenizer: Any, stage: StageConfig, readers: nn.ModuleDict | None = None
    ) -> None:
        """readers: heads of `make_readers`, to go on with those of the stage before."""
        super().__init__()
        self.student = student
        self.stage, self.settings = stage, pixel_settings(student.config)
        self._tokenizer = tokenizer
        if stage.scene_weight:
            width = student.config.text_config.hidden_size
            self.heads = make_readers(width) if readers is None else readers
        student.model.visual.requires_grad_(stage.train_vision)

    def batch(self, seed: int, step: int, rank: int) -> tuple[Any, ...]:
        """Return the videos' groups and a generator for their questions."""
        rng = step_rng(seed, self.stage.name, step, rank)
        videos = [draw_footage(self.stage, rng) for _ in range(self.stage.videos_per_step)]
        patches = torch.cat([patches_of(v, self.settings) for v in videos])
        return patches, videos, rng

    def forward(
        self, patches_TNC: torch.Tensor, videos: list[GroupedVideo], rng: np.random.Generator
    ) -> tuple[Any, Metrics]:
        """Return the answers' loss and the share of answer tokens that are right."""
        with torch.set_grad_enabled(self.stage.train_vision and torch.is_grad_enabled()):
            features = encode_groups(self.student.model.visual, patches_TNC, GRID_HW)
        samples = self._samples(features.float(), videos, rng)
        batch = self._packed(samples).to(features.device)
        layers = self.student.model.language_model.layers
        early, late = layers[max(0, len(layers) // 3 - 1)], layers[max(0, 2 * len(layers) // 3 - 1)]
        with states_of(early) as seen, states_of(late) as about:
            hidden_ND, targets_N = answer_hidden(self.student, batch)
        loss, metrics = _answer_loss(self.student.lm_head(hidden_ND).float(), targets_N)
        if not self.stage.scene_weight:
            return loss, metrics
        scenes, first = self._scenes(seen[0][0, batch.is_visual_S], samples)
        answering = batch.labels_S[1:] != IGNORE
        pointers, second = self._pointers(about[0][0, :-1][answering], samples)
        total = loss + self.stage.scene_weight * (scenes + pointers)
        return total, {**metrics, **first, **second}

    def _samples(
        self, features_TPD: torch.Tensor, videos: list[GroupedVideo], rng: np.random.Generator
    ) -> list[tuple[GroupedVideo, PackedTurns]]:
        parts = torch.split(features_TPD, [len(v.event_T) for v in videos])
        made = [
            (v, make_sample(v, f, self.stage, self._tokenizer, rng))
            for v, f in zip(videos, parts, strict=True)
        ]
        return [(v, s) for v, s in made if s is not None]

    def _packed(self, samples: list[tuple[GroupedVideo, PackedTurns]]) -> PackedBatch:
        config = self.student.config
        return pack(
            [s for _, s in samples],
            tokenizer=self._tokenizer,
            video_token=config.video_token_id,
            per_second=float(config.vision_config.tokens_per_second),
        )

    def _scenes(
        self, states_ND: torch.Tensor, samples: list[tuple[GroupedVideo, PackedTurns]]
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the loss of the scene heads; compressed videos have no scenes to tell apart."""
        counts = [s.features_KPD.shape[0] * s.features_KPD.shape[1] for _, s in samples]
        parts = zip(samples, torch.split(states_ND, counts), strict=True)
        whole = [(v, part) for (v, s), part in parts if s.pointers_QK is not None]
        if not whole:
            return _nothing(self.heads["scenes"]), {}
        read = self.heads["scenes"](torch.cat([part for _, part in whole]))
        tokens = samples[0][1].features_KPD.shape[1]
        return scene_loss(read, [scene_targets(v) for v, _ in whole], tokens)

    def _pointers(
        self, states_ND: torch.Tensor, samples: list[tuple[GroupedVideo, PackedTurns]]
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the loss of the pointers at the answers' tokens; merged groups have none."""
        sizes = [sum(len(answer) for _, answer in s.turns) for _, s in samples]
        parts, targets = [], []
        for (_, sample), states in zip(samples, torch.split(states_ND, sizes), strict=True):
            if sample.pointers_QK is None:
                continue
            lengths = torch.tensor([len(answer) for _, answer in sample.turns])
            targets.append(sample.pointers_QK.repeat_interleave(lengths, dim=0))
            parts.append(states)
        if not parts:
            return _nothing(self.heads["pointers"]), {}
        read = self.heads["pointers"](torch.cat(parts))
        return pointer_loss(read, torch.cat(targets).to(states_ND.device))


def _answer_loss(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> tuple[torch.Tensor, Metrics]:
    loss = nn.functional.cross_entropy(logits_NV, targets_N)
    right = logits_NV.detach().argmax(-1) == targets_N
    return loss, {
        "answers": float(loss.detach()),
        "token_accuracy": float(right.float().mean()),
    }


def _nothing(module: nn.Module) -> torch.Tensor:
    """Return 0, with a gradient of 0 for every parameter: DDP waits for all of them."""
    return torch.stack([p.sum() for p in module.parameters()]).sum() * 0
