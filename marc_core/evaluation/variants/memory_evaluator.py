"""The same questions answered from a memory, by the one path that jobs and serving use.

No video is opened where the memory holds the student's features: what is measured here is what a
user of `marc ask` gets. Each question is asked about its own video.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marc_core.answer import answer_question
from marc_core.config import AskConfig, MethodConfig
from marc_core.errors import AnswerError, SourceError, VideoError
from marc_core.evaluation.config import ArmConfig, EvaluateConfig
from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.results.prediction import (
    FAILED,
    MISSING,
    Prediction,
    answered,
    unanswered,
)
from marc_core.evaluation.variants.arms import evidence_rank, evidence_shown, recall_by_chance
from marc_core.evaluation.variants.evaluator import kv_bytes, peak_memory, reset_peak

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder
    from marc_core.memory import MemoryStore
    from marc_core.models.student import Student
    from marc_core.types import Answer

EVERY_EVENT = 1_000_000
"""k of an arm that looks at all events of a video."""


class MemoryEvaluator:
    """Holds models and memory, and answers video by video."""

    def __init__(
        self, config: EvaluateConfig, student: Student, encoder: DualEncoder, store: MemoryStore
    ) -> None:
        self.config, self.student, self.encoder, self.store = config, student, encoder, store
        self.arms = config.chosen_arms()

    def run(self, samples: Sequence[Sample], *, probe: bool = False) -> list[Prediction]:
        """Answer all `samples`, which share one path, under every arm; `probe` changes nothing,
        because every question is asked alone."""
        uri = os.path.abspath(samples[0].path)
        row = self.store.get_video(uri)
        if row is None or not row["num_events"]:
            reason = f"The memory holds no events of '{uri}'."
            return [unanswered(s, arm, MISSING, reason) for arm in self.arms for s in samples]
        spans = self._spans(row["video_id"])
        return [
            self._ask(sample, name, row["video_id"], spans)
            for name in self.arms
            for sample in samples
        ]

    def _spans(self, video_id: str) -> list[tuple[float, float]]:
        rows = self.store.events_of(video_id, columns=["start_s", "end_s"]).to_pylist()
        return [(r["start_s"], r["end_s"]) for r in rows]

    def _ask(
        self, sample: Sample, name: str, video_id: str, spans: Sequence[tuple[float, float]]
    ) -> Prediction:
        reset_peak()
        try:
            answer = answer_question(
                sample.problem,
                store=self.store,
                encoder=self.encoder,
                student=self.student,
                config=ask_config(self.config, self.arms[name], sample, video_id),
            )
        except (AnswerError, VideoError, SourceError) as error:
            kind = getattr(error, "kind", type(error).__name__)
            return unanswered(sample, name, FAILED, f"{kind}: {error}")
        return self._outcome(sample, name, answer, spans)

    def _outcome(
        self, sample: Sample, name: str, answer: Answer, spans: Sequence[tuple[float, float]]
    ) -> Prediction:
        events = tuple(c.event_index for c in answer.citations)
        by_score = sorted(answer.citations, key=lambda c: -(c.score or 0.0))
        ranked = [c.event_index for c in by_score if c.score is not None]
        return answered(
            sample,
            name,
            answer.text,
            visual_tokens=answer.visual_tokens,
            visual_tokens_before=answer.visual_tokens_before,
            prompt_tokens=answer.prompt_tokens,
            generated_tokens=answer.generated_tokens,
            events=events,
            evidence_rank=evidence_rank(sample, ranked, spans),
            recall_by_chance=recall_by_chance(sample, ranked, spans),
            evidence_shown=evidence_shown(sample, events, spans),
            timings_s=answer.timings_s,
            alone_s=answer.timings_s,
            kv_cache_bytes=kv_bytes(self.student, answer.prompt_tokens + answer.generated_tokens),
            **peak_memory(),
        )


def ask_config(config: EvaluateConfig, arm: ArmConfig, sample: Sample, video_id: str) -> AskConfig:
    """Return the configuration of one question under one arm, about its own video."""
    shared: dict[str, Any] = {
        f.name: getattr(config, f.name) for f in dataclasses.fields(MethodConfig)
    }
    k = EVERY_EVENT if arm.events == "all" else config.retrieve.k
    return AskConfig(
        **shared
        | {
            "compress": dataclasses.replace(
                config.compress,
                mode=arm.mode,
                budget_groups=arm.budget_groups,
                adaptive=arm.adaptive,
            ),
            "retrieve": dataclasses.replace(config.retrieve, k=k),
            "student": dataclasses.replace(config.student, max_frames=arm.frames),
        },
        options=sample.options if sample.problem_type == "multiple choice" else (),
        only_video=video_id,
        start_s=sample.clip_start_s,
        end_s=sample.clip_end_s,
    )
