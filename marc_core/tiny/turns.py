"""Questions of the world as training turns, and what the student sees for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from marc_core.compress import compress_across, compress_event, tokens_of
from marc_core.config import CompressConfig
from marc_core.models.prompt import question_text
from marc_core.tiny.config import StageConfig
from marc_core.tiny.footage import GroupedVideo
from marc_core.tiny.packing import PackedTurns, turn_ids
from marc_core.tiny.scenes import pointer_targets
from marc_core.types import EventFeatures
from marc_core.world import Question, make_questions

EVENTS_SHOWN = 3
"""k of the retriever (paper, section 4)."""


def question_turn(tokenizer: Any, question: Question) -> tuple[list[int], list[int]]:
    """Return a turn, answered in words; options do not show (`options_prompt: choice`)."""
    prompt = question_text(question.text, question.options, template="choice")
    return turn_ids(tokenizer, prompt, question.answer_text)


def make_sample(
    footage: GroupedVideo,
    features_TPD: torch.Tensor,
    stage: StageConfig,
    tokenizer: Any,
    rng: np.random.Generator,
) -> PackedTurns | None:
    """Return a packed sample of one video, or None when no question is left.

    A `compressed_share` of the samples shows three events, merged to a few groups; only questions
    whose evidence is among them are kept.
    """
    shown = tuple(int(e) for e in np.unique(footage.event_T))
    compressed = rng.random() < stage.compressed_share
    if compressed:
        picked = rng.permutation(shown)[: min(EVENTS_SHOWN, len(shown))]
        shown = tuple(sorted(int(e) for e in picked))
    questions = _questions(footage, shown, stage, rng)
    turns = [question_turn(tokenizer, q) for q in questions]
    if not turns:
        return None
    grid_hw = (3, 3)
    if not compressed:
        times = torch.from_numpy(footage.group_times_T)
        pointers_QK = torch.stack([pointer_targets(footage, q) for q in questions])
        return PackedTurns(features_TPD, times, grid_hw, tuple(turns), pointers_QK)
    budget = int(rng.choice(stage.budgets))
    video = compress_across(
        [_merged(footage, features_TPD, e) for e in shown],
        CompressConfig(mode="plain"),
        budget_tokens=tokens_of(budget, grid_hw),
    )
    return PackedTurns(video.groups_KPD, video.times_K, grid_hw, tuple(turns))


def _merged(footage: GroupedVideo, features_TPD: torch.Tensor, event: int) -> EventFeatures:
    inside = torch.from_numpy(footage.event_T == event)
    features = EventFeatures(
        groups_TPD=features_TPD[inside],
        grid_hw=(3, 3),
        times_T=torch.from_numpy(footage.group_times_T)[inside],
        num_source_groups=int(inside.sum()),
    )
    return compress_event(features, CompressConfig(mode="plain"))


def _questions(
    footage: GroupedVideo, shown: Sequence[int], stage: StageConfig, rng: np.random.Generator
) -> list[Question]:
    per_type = stage.per_type or (2 if len(footage.video.events) > 1 else 1)
    seed = int(rng.integers(1 << 30))
    types = stage.types if rng.random() < stage.focus_share else ()
    asked = make_questions(footage.video, seed=seed, per_type=per_type, types=types)
    usable = [q for q in asked if set(q.evidence) <= set(shown)]
    return [usable[i] for i in rng.permutation(len(usable))[: stage.questions]]
