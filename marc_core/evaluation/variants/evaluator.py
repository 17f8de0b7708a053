"""All questions about one video, under all variants: the one function that a worker calls.

    samples of one video -> an archive (footage or memory), opened once
      for each variant: choose events -> load -> compress -> Evidence -> engine, in batches -> score

Everything from the question to its Evidence is the product's own (`Preparer`); a variant is a
setting of it. Only which events an oracle would choose, which frames a teacher or a baseline
takes, and a benchmark's wording are the evaluation's.

A video that cannot be loaded gives a recorded prediction for each question and variant; only
AnswerError, VideoError and SourceError are caught here.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import torch

from marc_core.errors import AnswerError, SourceError, VideoError
from marc_core.evaluation.config import VariantConfig
from marc_core.evaluation.results.prediction import (
    FAILED,
    MISSING,
    Prediction,
    answered,
    unanswered,
)
from marc_core.evaluation.variants import baselines
from marc_core.evaluation.variants.evidence import (
    evidence_events,
    evidence_rank,
    evidence_shown,
    recall_by_chance,
)
from marc_core.evaluation.variants.prompts import prompt_style, protocol_prompt, shown_options
from marc_core.prepare import Preparer
from marc_core.prepared import Chosen, PrepareSettings, Uncut
from marc_core.question import Question, SearchQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marc_core.archive import SearchHit
    from marc_core.config import CompressConfig
    from marc_core.embed import DualEncoder
    from marc_core.evaluation.config import EvaluateConfig
    from marc_core.evaluation.datasets.sample import Sample
    from marc_core.evaluation.variants.readers import Reader
    from marc_core.evaluation.variants.sources import Opened, Source
    from marc_core.evidence import Evidence
    from marc_core.models.engine import Completion

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What one question is shown under a variant, ready to be answered.

    events: indices of the chosen events. ranked: all events, best first; none where nothing was
    retrieved. timings_s: by step.
    """

    sample: Sample
    evidence: Evidence
    events: tuple[int, ...]
    ranked: tuple[int, ...]
    timings_s: dict[str, float]


class Evaluator:
    """Holds the models and answers video by video."""

    def __init__(
        self,
        config: EvaluateConfig,
        readers: Mapping[str, Reader],
        encoder: DualEncoder,
        source: Source,
    ) -> None:
        self.config, self.readers, self.encoder, self.source = config, readers, encoder, source
        self.variants = config.chosen_variants()
        self.style = prompt_style(config)

    def run(self, samples: Sequence[Sample], *, probe: bool = False) -> list[Prediction]:
        """Answer all `samples`, which share one path, under every variant.

        probe: also time the first question of every variant alone, step by step.
        """
        missing = self.source.missing(samples[0].path)
        if missing is not None:
            return self._all(samples, MISSING, missing)
        try:
            predictions: list[Prediction] = []
            for opened, part in self.source.open(samples):
                video = OneVideo(self, opened, part)
                for name, variant in self.variants.items():
                    first = probe and not any(p.variant == name for p in predictions)
                    predictions += video.predict(name, variant, probe=first)
        except (VideoError, SourceError) as error:
            kind = getattr(error, "kind", "source")
            return self._all(samples, FAILED, f"{kind}: {error}")
        return predictions

    def _all(self, samples: Sequence[Sample], status: str, error: str) -> list[Prediction]:
        return [unanswered(s, variant, status, error) for variant in self.variants for s in samples]


class OneVideo:
    """The questions about one video, or one stretch of it, over its archive."""

    def __init__(self, evaluator: Evaluator, opened: Opened, samples: Sequence[Sample]) -> None:
        self.evaluator, self.config, self.opened = evaluator, evaluator.config, opened
        self.samples = samples
        self.index = {hit.event_id: i for i, hit in enumerate(opened.hits)}
        self.spans = [(hit.start_s, hit.end_s) for hit in opened.hits]
        self.shared = {step: s / len(samples) for step, s in opened.timings_s.items()}

    def predict(self, name: str, variant: VariantConfig, *, probe: bool) -> list[Prediction]:
        """Return one prediction a question."""
        reader = self.evaluator.readers[variant.model]
        predictions: list[Prediction] = []
        for batch in _batches(self.samples, self.config.batch_size):
            reset_peak()
            try:
                shown = self._show(batch, variant, reader)
            except (AnswerError, VideoError, SourceError) as error:
                reason = f"{getattr(error, 'kind', type(error).__name__)}: {error}"
                predictions += [unanswered(s, name, FAILED, reason) for s in batch]
                continue
            predictions += self._answer(name, shown, reader, probe and not predictions)
        return predictions

    def question(self, sample: Sample) -> Question:
        """Return what `marc ask` would be asked, about the sample's own video."""
        return Question(
            text=sample.problem,
            options=shown_options(sample),
            filter=self.opened.filter,
        )

    @cached_property
    def ranking(self) -> dict[str, tuple[int, ...]]:
        """Every question's ranking of all events, by problem_id."""
        if not any(v.events == "retrieved" for v in self.evaluator.variants.values()):
            return {}
        queries = [
            SearchQuery(text=s.problem, filter=self.opened.filter, limit=len(self.spans))
            for s in self.samples
        ]
        vectors_QD = self.evaluator.encoder.encode_texts([s.problem for s in self.samples])
        found = self.opened.archive.search(queries, vectors_QD)
        return {
            sample.problem_id: tuple(self.index[hit.event_id] for hit in hits)
            for sample, hits in zip(self.samples, found, strict=True)
        }

    def _show(
        self, samples: Sequence[Sample], variant: VariantConfig, reader: Reader
    ) -> list[Shown]:
        preparer = self._preparer(variant, reader)
        questions = [self.question(sample) for sample in samples]
        if variant.events == "retrieved":
            chosen = preparer.choose(questions)
        else:
            pairs = zip(samples, questions, strict=True)
            chosen = [self._given(s, q, variant) for s, q in pairs]
        uncut = self._load(preparer, chosen, variant, reader)
        started = time.perf_counter()
        prompts = [protocol_prompt(sample, self.evaluator.style) for sample in samples]
        own = [p for p in prompts if p is not None]
        evidence = preparer.compress(uncut, prompts=own or None)
        compress_s = (time.perf_counter() - started) / len(samples)
        return [
            self._shown(s, u, e, variant, compress_s)
            for s, u, e in zip(samples, uncut, evidence, strict=True)
        ]

    def _preparer(self, variant: VariantConfig, reader: Reader) -> Preparer:
        compress = variant_compress(self.config.compress, variant)
        return Preparer(
            self.opened.view(reader, compress, variant.frames),
            self.evaluator.encoder,
            reader.files,
            dataclasses.replace(
                PrepareSettings.of(self.config, reader.files.settings),
                compress=compress,
                max_frames=variant.frames,
            ),
            tower=reader.load_tower,
            compressor=baselines.compressor(variant, seed=self.config.seed),
        )

    def _given(self, sample: Sample, question: Question, variant: VariantConfig) -> Chosen:
        """Return all events, or those that hold the evidence where an oracle knows them."""
        hits: Sequence[SearchHit] = self.opened.hits
        if variant.events == "oracle":
            hits = [hits[i] for i in evidence_events(sample, self.spans)] or hits
        return Chosen(question=question, hits=tuple(hits), retrieval="bypassed")

    def _load(
        self,
        preparer: Preparer,
        chosen: Sequence[Chosen],
        variant: VariantConfig,
        reader: Reader,
    ) -> list[Uncut]:
        if variant.stored:
            return [
                self.opened.with_vision_time(u, preparer.archive) for u in preparer.load(chosen)
            ]
        archive = self.opened.footage(reader, preparer.settings.compress, variant.frames)
        tokens, unit = archive.tokens_a_group(), archive.tower.pixels.unit
        return [
            archive.sampled(
                c,
                most_frames=variant.frames,
                pick=lambda frames: baselines.pick_frames(frames, variant, tokens),
                shrink_to=lambda frames: baselines.small_pixels(
                    variant, archive.num_groups(frames), tokens, unit
                ),
            )
            for c in chosen
        ]

    def _shown(
        self,
        sample: Sample,
        uncut: Uncut,
        evidence: Evidence,
        variant: VariantConfig,
        compress_s: float,
    ) -> Shown:
        """Collect one question's part. Seconds of calls for several questions are shared out."""
        ranked = self.ranking.get(sample.problem_id, ()) if variant.events == "retrieved" else ()
        asked = {s: t / len(self.samples) for s, t in uncut.chosen.timings_s.items()}
        return Shown(
            sample=sample,
            evidence=evidence,
            events=tuple(self.index[hit.event_id] for hit in uncut.chosen.hits),
            ranked=ranked,
            timings_s=added(self.shared, asked, uncut.timings_s, {"compress": compress_s}),
        )

    def _answer(
        self, name: str, shown: Sequence[Shown], reader: Reader, probe: bool
    ) -> list[Prediction]:
        started = time.perf_counter()
        completions = reader.answer([s.evidence for s in shown])
        each_s = (time.perf_counter() - started) / len(shown)
        peaks = peak_memory()
        alone = [_alone(reader, shown[0])] if probe else []
        return [
            self._prediction(name, s, c, reader, peaks, each_s, alone[i] if i < len(alone) else {})
            for i, (s, c) in enumerate(zip(shown, completions, strict=True))
        ]

    def _prediction(
        self,
        name: str,
        shown: Shown,
        completion: Completion,
        reader: Reader,
        peaks: dict[str, int],
        generate_s: float,
        alone_s: dict[str, float],
    ) -> Prediction:
        generated = len(completion.token_ids)
        tokens = completion.prompt_tokens + generated
        return answered(
            shown.sample,
            name,
            completion.text,
            visual_tokens=shown.evidence.num_tokens,
            visual_tokens_before=shown.evidence.source_tokens,
            prompt_tokens=completion.prompt_tokens,
            generated_tokens=generated,
            events=shown.events,
            evidence_rank=evidence_rank(shown.sample, shown.ranked, self.spans),
            recall_by_chance=recall_by_chance(shown.sample, shown.ranked, self.spans),
            evidence_shown=evidence_shown(shown.sample, shown.events, self.spans),
            timings_s=shown.timings_s | {"generate": generate_s},
            alone_s=alone_s,
            kv_cache_bytes=reader.engine.spec.kv_bytes_per_token * tokens,
            **peaks,
        )


def variant_compress(compress: CompressConfig, variant: VariantConfig) -> CompressConfig:
    """Return the run's compression as a variant has it."""
    return dataclasses.replace(
        compress,
        mode=variant.mode,
        budget_tokens=variant.budget_tokens or compress.budget_tokens,
        unnamed_budget_tokens=variant.unnamed_budget_tokens or compress.unnamed_budget_tokens,
        adaptive=variant.adaptive,
    )


def added(*timings: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds by step, those of one step added up."""
    steps = dict.fromkeys(step for part in timings for step in part)
    return {step: sum(part.get(step, 0.0) for part in timings) for step in steps}


def _alone(reader: Reader, shown: Shown) -> dict[str, float]:
    """Time one question by itself: prefill, and one further token."""
    prefill_s, _ = _timed(reader, shown, 1)
    all_s, tokens = _timed(reader, shown, None)
    steps = {"prefill": prefill_s, "generate": all_s}
    if tokens > 1:
        steps["token"] = max(0.0, all_s - prefill_s) / (tokens - 1)
    return shown.timings_s | steps


def _timed(reader: Reader, shown: Shown, most: int | None) -> tuple[float, int]:
    started = time.perf_counter()
    (completion,) = reader.answer([shown.evidence], max_tokens=most)
    return time.perf_counter() - started, len(completion.token_ids)


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
