"""From footage to the student's visual tokens, under one arm.

    choose events (retrieved | all | oracle) -> choose frames -> encode events (cached)
      -> stage 1 per event, stage 2 across | a training-free control | nothing (teacher)

Every arm sees the same sampled frames and the same weights; only what is named in ArmConfig
differs. Letters: S sampled frames, T groups, P tokens of a group, D channels.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from marc_core.compress import CompressedVideo, compress_across, compress_event
from marc_core.config import CompressConfig
from marc_core.evaluation.config import ArmConfig
from marc_core.evaluation.datasets.sample import NAMES_ONE_EVENT, Sample
from marc_core.evaluation.variants import baselines
from marc_core.evaluation.variants.footage import Footage
from marc_core.indexing import cap_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.models.student import Student
    from marc_core.types import EventFeatures


TOP = (1, 3)
"""Ranks k at which retrieval is scored: is there evidence in the top k?"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the student is shown for one question.

    events: chosen events, in order of time. tokens_before: visual tokens without compression.
    evidence_rank, chance, evidence_shown: see Prediction. seconds: {"vision", "retrieve",
        "compress"}.
    """

    video: CompressedVideo
    events: tuple[int, ...]
    tokens_before: int
    evidence_rank: int
    chance: dict[str, float]
    evidence_shown: float
    seconds: dict[str, float]


class VideoArms:
    """All arms on one video. Encoded events and stage-1 results are kept and shared."""

    def __init__(
        self,
        footage: Footage,
        student: Student,
        compress: CompressConfig,
        *,
        k: int,
        seed: int,
        event_vectors_ED: NDArray[np.float32] | None = None,
    ) -> None:
        self.footage, self.student, self.compress, self.k = footage, student, compress, k
        self.seed, self.vectors_ED = seed, event_vectors_ED
        self._encoded: dict[tuple[int, bytes, int], tuple[EventFeatures, float]] = {}
        self._whole = CompressConfig(mode="none")

    def show(
        self, sample: Sample, arm: ArmConfig, query_D: NDArray[np.float32] | None = None
    ) -> Seen:
        """Return what `arm` shows of this video for `sample`.

        query_D: the question's unit vector; needed where the arm retrieves.
        """
        started = time.perf_counter()
        ranked = self.rank(query_D) if arm.events == "retrieved" and query_D is not None else ()
        events = self.choose(sample, arm, ranked)
        retrieve_s = time.perf_counter() - started
        frames = self._frames(events, arm)
        pixels = baselines.small_pixels(
            arm, self._plan_groups(frames), self._tokens_a_group(), self.student.pixels.unit
        )
        encoded = [self._encode(e, p, pixels) for e, p in frames]
        started = time.perf_counter()
        with torch.inference_mode():
            video = self._merge([f for f, _ in encoded], arm, sample.problem_id)
        return Seen(
            video=video,
            events=events,
            tokens_before=self._plan_groups(self._capped(events, arm.frames))
            * self._tokens_a_group(),
            evidence_rank=evidence_rank(sample, ranked, self.footage.spans),
            chance=recall_by_chance(sample, ranked, self.footage.spans),
            evidence_shown=evidence_shown(sample, events, self.footage.spans),
            seconds={
                "retrieve": retrieve_s,
                "vision": sum(s for _, s in encoded),
                "compress": time.perf_counter() - started,
            },
        )

    def rank(self, query_D: NDArray[np.float32]) -> tuple[int, ...]:
        """Return all events by falling similarity to the query; ties to the earlier event."""
        assert self.vectors_ED is not None, "an arm that retrieves needs the events' vectors"
        return tuple(int(i) for i in np.argsort(-(self.vectors_ED @ query_D), kind="stable"))

    def choose(self, sample: Sample, arm: ArmConfig, ranked: Sequence[int]) -> tuple[int, ...]:
        """Return the events that the arm looks at, in order of time."""
        everything = tuple(range(len(self.footage.spans)))
        if arm.events == "retrieved":
            return tuple(sorted(ranked[: self.k])) if ranked else everything
        if arm.events == "oracle":
            return evidence_events(sample, self.footage.spans) or everything
        return everything

    def _capped(self, events: Sequence[int], most: int) -> list[tuple[int, NDArray[np.int64]]]:
        """At most `most` frames of these events, evenly; events left without one drop out."""
        positions = [self.footage.positions[e] for e in events]
        owner = np.repeat(np.asarray(events), [len(p) for p in positions])
        kept = cap_frames(np.arange(len(owner)), most)
        frames, owner = np.concatenate(positions)[kept], owner[kept]
        return [(e, frames[owner == e]) for e in events if (owner == e).any()]

    def _frames(self, events: Sequence[int], arm: ArmConfig) -> list[tuple[int, NDArray[np.int64]]]:
        return baselines.pick_frames(self._capped(events, arm.frames), arm, self._tokens_a_group())

    def _plan_groups(self, frames: Sequence[tuple[int, NDArray[np.int64]]]) -> int:
        return sum(-(-len(p) // self.student.pixels.temporal_patch) for _, p in frames)

    def _tokens_a_group(self) -> int:
        from marc_core.models.preprocess import smart_resize

        height, width = self.footage.frames_SHWC.shape[1:3]
        unit = self.student.pixels.unit
        h, w = smart_resize(
            height, width, unit=unit, max_pixels=self.student.config.frame_max_pixels
        )
        return (h // unit) * (w // unit)

    def _encode(
        self, event: int, positions: NDArray[np.int64], pixels: int
    ) -> tuple[EventFeatures, float]:
        """Features of an event's frames and what they cost, encoded once for all arms.

        pixels: limit of a shrunken frame, 0 for frames as they are.
        """
        key = (event, positions.tobytes(), pixels)
        if key not in self._encoded:
            started = time.perf_counter()
            frames = self.footage.frames_SHWC[positions]
            if pixels:
                frames = baselines.shrink(frames, pixels, self.student.pixels.unit)
            with torch.inference_mode():
                (features,) = self.student.encode_events(
                    [(frames, self.footage.times_S[positions])]
                )
            self._encoded[key] = features, time.perf_counter() - started
        return self._encoded[key]

    def _merge(
        self, events: Sequence[EventFeatures], arm: ArmConfig, problem_id: str
    ) -> CompressedVideo:
        if arm.mode == "none":
            return compress_across(events, self._whole)
        if arm.control != "none":
            return baselines.apply(events, arm, seed=f"{self.seed}/{problem_id}")
        config = dataclasses.replace(
            self.compress, mode=arm.mode, budget_groups=arm.budget_groups, adaptive=arm.adaptive
        )
        return compress_across([compress_event(e, config) for e in events], config)


def evidence_events(sample: Sample, spans: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Return the events that hold more than half of a stretch of evidence, or lie more than half
    inside one: the same cut as the truth gives the true events, another cut the nearest."""
    found = []
    for index, (start_s, end_s) in enumerate(spans):
        for first_s, last_s in sample.evidence:
            overlap_s = min(end_s, last_s) - max(start_s, first_s)
            if overlap_s > 0.5 * min(end_s - start_s, last_s - first_s):
                found.append(index)
                break
    return tuple(found)


def evidence_rank(
    sample: Sample, ranked: Sequence[int], spans: Sequence[tuple[float, float]]
) -> int:
    """Return the best rank (from 1) of an event with the evidence, for questions that name one
    event; 0 for other questions, -1 where no event holds it."""
    if NAMES_ONE_EVENT not in sample.tags or not ranked:
        return 0
    wanted = set(evidence_events(sample, spans))
    ranks = [rank for rank, event in enumerate(ranked, start=1) if event in wanted]
    return ranks[0] if ranks else -1


def recall_by_chance(
    sample: Sample, ranked: Sequence[int], spans: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Return {"1": p, "3": p}: chance that a random order has evidence in its top 1 and top 3.

    1 - C(E - n, k) / C(E, k) for n of E events with evidence; {} where nothing is ranked.
    """
    if evidence_rank(sample, ranked, spans) == 0:
        return {}
    num, wanted = len(spans), len(evidence_events(sample, spans))
    return {
        str(k): 1 - math.comb(num - wanted, min(k, num)) / math.comb(num, min(k, num)) for k in TOP
    }


def evidence_shown(
    sample: Sample, events: Sequence[int], spans: Sequence[tuple[float, float]]
) -> float:
    """Return the share of the events with evidence that are among `events`, -1 without any."""
    wanted = evidence_events(sample, spans)
    return sum(e in events for e in wanted) / len(wanted) if wanted else -1.0


def event_vectors(footage: Footage, embeddings_SD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (E, D) unit vectors of the events: the mean of their frames', as indexing has it."""
    means = np.stack([embeddings_SD[p].mean(axis=0) for p in footage.positions])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means / np.maximum(norms, 1e-12), dtype=np.float32)
