"""How good the tiny preset is, on videos that training never saw (seeds below `TRAIN_SEED`).

Teacher accuracy is exact match of the whole answer, decoded among the options where there are
some. With greedy decoding an answer is right if and only if every token is the most likely one
after the right tokens before it, so one packed forward pass per video gives what `generate` would
(see the test).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marc_core.embed.protocol import DualEncoder
from marc_core.models.preprocess import pixel_settings
from marc_core.models.sampling import next_ids
from marc_core.tiny.footage import make_footage, patches_of
from marc_core.tiny.packing import PackedTurns, answer_hidden, answer_ids, pack
from marc_core.tiny.turns import question_turn
from marc_core.tiny.vision_batch import encode_groups
from marc_core.world import WorldConfig, make_questions, sample_video

Tally = dict[str, list[int]]
"""Type -> one 0 or 1 for every question."""


@torch.no_grad()
def teacher_answers(
    student: Any, tokenizer: Any, seeds: Sequence[int], *, per_type: int = 1
) -> Tally:
    """Return right (1) or wrong (0) by type, with all frames of each video (64 at most)."""
    tally: Tally = defaultdict(list)
    settings = pixel_settings(student.config)
    device = next(student.parameters()).device
    for seed in seeds:
        footage = make_footage(seed, WorldConfig(), size=WorldConfig().size_px)
        questions = make_questions(footage.video, seed=seed, per_type=per_type)
        turns = tuple(question_turn(tokenizer, q) for q in questions)
        visual = student.model.visual
        features = encode_groups(visual, patches_of(footage, settings).to(device), (6, 6))
        sample = PackedTurns(features, torch.from_numpy(footage.group_times_T), (3, 3), turns)
        choices = [[answer_ids(tokenizer, o) for o in q.options] for q in questions]
        rights = _right(student, tokenizer, sample, choices)
        for question, right in zip(questions, rights, strict=True):
            tally[question.type].append(int(right))
    return dict(tally)


def _right(
    student: Any, tokenizer: Any, sample: PackedTurns, choices: Sequence[Sequence[Sequence[int]]]
) -> list[bool]:
    """Return for every turn whether greedy decoding among its choices gives its whole answer."""
    config = student.config
    batch = pack(
        [sample],
        tokenizer=tokenizer,
        video_token=config.video_token_id,
        per_second=float(config.vision_config.tokens_per_second),
    ).to(sample.features_KPD.device)
    hidden_ND, _ = answer_hidden(student, batch)
    logits_NV = student.lm_head(hidden_ND)
    per_turn = logits_NV.split([len(answer) for _, answer in sample.turns])
    return [
        _wins(logits_CV, answer, own)
        for logits_CV, (_, answer), own in zip(per_turn, sample.turns, choices, strict=True)
    ]


def _wins(logits_CV: torch.Tensor, answer: Sequence[int], choices: Sequence[Sequence[int]]) -> bool:
    for at, token in enumerate(answer):
        allowed = next_ids(choices, answer[:at]) or list(range(logits_CV.shape[1]))
        if allowed[int(logits_CV[at, allowed].argmax())] != token:
            return False
    return True


def accuracy(tally: Tally) -> dict[str, float]:
    """Return the accuracy of every type, and "overall" over all questions."""
    every = [x for answers in tally.values() for x in answers]
    rows = {name: float(np.mean(answers)) for name, answers in sorted(tally.items())}
    return {"overall": float(np.mean(every)), **rows}


def retrieval_ranks(encoder: DualEncoder, seeds: Sequence[int], *, per_type: int = 1) -> Tally:
    """Return the rank (1 = best) of the named event among all events of all these videos.

    One memory holds the events of all `seeds`; names in questions fit one event of the memory.
    Only questions that name one event are asked.
    """
    config = WorldConfig()
    videos = [sample_video(seed, config) for seed in seeds]
    vectors: list[NDArray[np.float32]] = []
    first: list[int] = []
    for seed in seeds:
        footage = make_footage(seed, config, size=config.size_px)
        frames_FD = encoder.encode_images(footage.frames_FHWC)
        owner_F = np.repeat(footage.event_T, 2)
        first.append(len(vectors))
        for event in footage.video.events:
            mean_D = frames_FD[owner_F == event.index].mean(axis=0)
            vectors.append(mean_D / np.linalg.norm(mean_D))
    memory_ED = np.stack(vectors)
    ranks: Tally = defaultdict(list)
    for video, start in zip(videos, first, strict=True):
        rivals = [e for v in videos if v is not video for e in v.events]
        asked = make_questions(video, seed=video.seed, per_type=per_type, rivals=rivals)
        for question in (q for q in asked if len(q.named) == 1):
            scores_E = memory_ED @ encoder.encode_texts([question.text])[0]
            own = scores_E[start + question.named[0]]
            ranks[question.type].append(1 + int((scores_E > own).sum()))
    return dict(ranks)
