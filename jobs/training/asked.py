"""From a question and its answers to a group that is trained on: plain functions, without Ray.

row --> Asked (teacher's texts) --> requests of the student --> completions --> Group
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marc_core.evidence import Evidence
from marc_core.models.engine import Completion, GenerationRequest
from marc_core.question import Sampling
from marc_core.rl.config import CGrpoConfig
from marc_core.rl.group import Group, make_group, rewards_of, target_of
from marc_core.rl.judging import judge
from marc_core.rl.samples import TrainSample


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question of a step. position: its place in the run's order. texts: the teacher's answers,
    none where it was not asked."""

    position: int
    row: int
    sample: TrainSample
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A question with the student's answers: what is trained on, and what people may look at."""

    asked: Asked
    completions: tuple[Completion, ...]
    group: Group


def can_be_judged(asked: Asked, config: CGrpoConfig) -> bool:
    """Return whether anything tells what an answer is worth."""
    return judge(asked.sample, (), config.reward, teacher=asked.texts) is not None


def student_request(asked: Asked, config: CGrpoConfig, step: int) -> tuple[str, bytes, Sampling]:
    """Return (id, evidence, sampling) of a question's G answers.

    The seed is that of run, step and place: a run that is resumed draws the same answers.
    """
    sampling = Sampling(
        temperature=config.rollout.temperature,
        max_tokens=config.rollout.max_tokens,
        seed=seed_of(config.seed, step, asked.position),
        n=config.rollout.answers,
    )
    _ = asked.sample.student_evidence  # names the row where there is none
    return f"{step}/{asked.position}", asked.sample.evidence, sampling


def teacher_request(asked: Asked, evidence: bytes, config: CGrpoConfig) -> Any:
    """Return (id, evidence, sampling) of the teacher's answers."""
    sampling = Sampling(
        temperature=config.rollout.temperature,
        max_tokens=config.rollout.max_tokens,
        seed=seed_of(config.seed, asked.sample.id),
        n=config.rollout.teacher_answers,
    )
    return f"{asked.position}", evidence, sampling


def seed_of(*parts: object) -> int:
    """Return 32 bits that depend on all parts."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def engine_requests(
    given: Sequence[tuple[str, bytes, Sampling]],
) -> list[GenerationRequest]:
    """Return what an engine is asked. Raises AnswerError for bytes that are no evidence."""
    return [
        GenerationRequest(id=id, evidence=Evidence.from_bytes(data), sampling=sampling)
        for id, data, sampling in given
    ]


def answered(asked: Asked, completions: Sequence[Completion], config: CGrpoConfig) -> Answered:
    """Return the group of a question's answers. Raises TrainingError for aborted ones."""
    evidence = asked.sample.student_evidence()
    verdict = judge(
        asked.sample,
        [c.text for c in completions],
        config.reward,
        teacher=asked.texts,
        lengths=[len(c.token_ids) for c in completions],
        choices=evidence.choices,
    )
    assert verdict is not None, "can_be_judged has looked"
    group = make_group(
        asked.sample.id,
        evidence,
        completions,
        verdict,
        is_image=asked.sample.is_image,
        target=target_of(verdict, completions[0].sampling),
    )
    return Answered(asked=asked, completions=tuple(completions), group=group)


def shown(answered: Answered, config: CGrpoConfig) -> dict[str, Any]:
    """Return a question with all answers and what they earned, as plain JSON values."""
    sample, verdict = answered.asked.sample, answered.group.verdict
    rewards = rewards_of([answered.group], config.reward)
    return {
        "id": sample.id,
        "question": sample.question.text,
        "options": list(sample.question.options),
        "right": list(sample.answers),
        "visual_tokens": answered.group.evidence.num_tokens,
        "weights_version": answered.group.version,
        "teacher": list(answered.asked.texts),
        "a_full": verdict.a_full,
        "student": [c.text for c in answered.completions],
        "scores": list(verdict.scores),
        "rewards": [round(float(x), 4) for x in rewards.reward_QG[0]],
    }
