"""All questions about one video, under all arms: the one function that a worker calls.

    samples of one video -> load once -> embed once -> for each arm: show, ask in batches, score

A video that cannot be loaded gives a recorded prediction for each question and arm; only
VideoError and SourceError are caught here.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from marc_core.errors import SourceError, VideoError
from marc_core.evaluation.config import ArmConfig, EvaluateConfig
from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.results.prediction import (
    FAILED,
    MISSING,
    Prediction,
    answered,
    unanswered,
)
from marc_core.evaluation.variants.arms import Seen, VideoArms, event_vectors
from marc_core.evaluation.variants.footage import Footage, Loader, clip
from marc_core.evaluation.variants.prompts import build_choices, build_prompt, prompt_style

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.embed import DualEncoder
    from marc_core.models.student import Student

T = TypeVar("T")


class Evaluator:
    """Holds the models and answers video by video."""

    def __init__(
        self, config: EvaluateConfig, student: Student, encoder: DualEncoder | None, loader: Loader
    ) -> None:
        self.config, self.student, self.encoder, self.loader = config, student, encoder, loader
        self.arms = config.chosen_arms()
        self.style = prompt_style(config)

    def run(self, samples: Sequence[Sample], *, probe: bool = False) -> list[Prediction]:
        """Answer all `samples`, which share one path, under every arm.

        probe: also time the first question of every arm alone, step by step.
        """
        path = samples[0].path
        if not self.loader.exists(path):
            return self._all(samples, MISSING, f"No file at '{path}'.")
        try:
            footage = self.loader.load(path)
        except (VideoError, SourceError) as error:
            kind = getattr(error, "kind", "source")
            return self._all(samples, FAILED, f"{kind}: {error}")
        predictions: list[Prediction] = []
        for part in by_clip(samples):
            predictions += self._ask(clip(footage, part[0]), part, probe and not predictions)
        return predictions

    def _all(self, samples: Sequence[Sample], status: str, error: str) -> list[Prediction]:
        return [unanswered(s, arm, status, error) for arm in self.arms for s in samples]

    def _ask(self, footage: Footage, samples: Sequence[Sample], probe: bool) -> list[Prediction]:
        shared = {step: s / len(samples) for step, s in footage.timings_s.items()}
        started = time.perf_counter()
        vectors_ED, queries_ND = self._vectors(footage, samples)
        embed_s = (time.perf_counter() - started) / len(samples)
        shared["embed"] = shared.get("embed", 0.0) + embed_s
        video = VideoArms(
            footage,
            self.student,
            self.config.compress,
            k=self.config.retrieve.k,
            seed=self.config.seed,
            event_vectors_ED=vectors_ED,
        )
        predictions: list[Prediction] = []
        for name, arm in self.arms.items():
            predictions += self._arm(name, arm, video, samples, queries_ND, shared, probe)
        return predictions

    def _vectors(
        self, footage: Footage, samples: Sequence[Sample]
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Return the events' and the questions' vectors, where an arm retrieves."""
        if not any(arm.events == "retrieved" for arm in self.arms.values()):
            return None, None
        assert self.encoder is not None, "an arm that retrieves needs the encoder"
        embeddings_SD = footage.embeddings_SD
        if embeddings_SD is None:
            embeddings_SD = self.encoder.encode_images(footage.frames_SHWC)
        vectors_ED = event_vectors(footage, embeddings_SD)
        return vectors_ED, self.encoder.encode_texts([s.problem for s in samples])

    def _arm(
        self,
        name: str,
        arm: ArmConfig,
        video: VideoArms,
        samples: Sequence[Sample],
        queries_ND: NDArray[np.float32] | None,
        shared: dict[str, float],
        probe: bool,
    ) -> list[Prediction]:
        queries: Sequence[Any] = [None] * len(samples) if queries_ND is None else list(queries_ND)
        predictions: list[Prediction] = []
        for batch in _batches(list(zip(samples, queries, strict=True)), self.config.batch_size):
            reset_peak()
            seen = [video.show(sample, arm, query) for sample, query in batch]
            asked = [sample for sample, _ in batch]
            predictions += self._answer(name, asked, seen, shared, probe and not predictions)
        return predictions

    def _answer(
        self,
        name: str,
        samples: Sequence[Sample],
        seen: Sequence[Seen],
        shared: dict[str, float],
        probe: bool,
    ) -> list[Prediction]:
        put = self.config.student.options_prompt
        prompts = [build_prompt(sample, self.style, put) for sample in samples]
        choices = [build_choices(sample, self.style, put) for sample in samples]
        started = time.perf_counter()
        answers = self.student.generate(prompts, [s.video for s in seen], choices=choices)
        each_s = (time.perf_counter() - started) / len(samples)
        peaks = peak_memory()
        alone = [self._alone(prompts[0], choices[0], seen[0])] if probe else []
        return [
            answered(
                sample,
                name,
                answer.text,
                visual_tokens=answer.visual_tokens,
                visual_tokens_before=shown.tokens_before,
                prompt_tokens=answer.prompt_tokens,
                generated_tokens=answer.generated_tokens,
                events=shown.events,
                evidence_rank=shown.evidence_rank,
                recall_by_chance=shown.chance,
                evidence_shown=shown.evidence_shown,
                timings_s=shared | shown.seconds | {"generate": each_s},
                alone_s=alone[i] if i < len(alone) else {},
                kv_cache_bytes=kv_bytes(
                    self.student, answer.prompt_tokens + answer.generated_tokens
                ),
                **peaks,
            )
            for i, (sample, shown, answer) in enumerate(zip(samples, seen, answers, strict=True))
        ]

    def _alone(self, prompt: str, choices: list[str], seen: Seen) -> dict[str, float]:
        """Time one question by itself: prefill, and one further token."""
        one = self._timed(prompt, choices, seen, 1)[0]
        all_s, tokens = self._timed(prompt, choices, seen, None)
        steps = {"prefill": one, "generate": all_s}
        if tokens > 1:
            steps["token"] = max(0.0, all_s - one) / (tokens - 1)
        return seen.seconds | steps

    def _timed(
        self, prompt: str, choices: list[str], seen: Seen, most: int | None
    ) -> tuple[float, int]:
        started = time.perf_counter()
        (answer,) = self.student.generate(
            [prompt], [seen.video], max_new_tokens=most, choices=[choices]
        )
        return time.perf_counter() - started, answer.generated_tokens


def kv_bytes(student: Student, tokens: int) -> int:
    """Return the key-value cache of one question: 2 x layers x KV heads x head size x tokens."""
    text: Any = student.model.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    a_token = 2 * text.num_hidden_layers * text.num_key_value_heads * head
    return int(a_token * tokens * student.dtype.itemsize)


def by_clip(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Group samples that are about the same stretch of their video, keeping the order."""
    groups: dict[tuple[float | None, float | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.clip_start_s, sample.clip_end_s), []).append(sample)
    return list(groups.values())


def reset_peak() -> None:
    """Start a new measurement of the GPU's peak memory."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """Return {"peak_rss_bytes", "peak_gpu_bytes"}: the process's highest since its start (the
    system keeps no other), and the GPU's since `reset_peak`."""
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
