"""The questions of a run, and the loader of their videos, from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.datasets.benchmarks import data_hash, load_benchmark
from marc_core.evaluation.datasets.sample import BenchmarkError, Sample
from marc_core.evaluation.variants.footage import FileLoader, Loader

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder

T = TypeVar("T")


def load_questions(config: EvaluateConfig) -> tuple[list[Sample], str]:
    """Return (samples, hash of the data). Raises BenchmarkError.

    The hash covers the question files as they are, or the world's generated questions.
    """
    if config.benchmark == "world":
        from marc_core.evaluation.datasets.world import world_hash, world_samples, write_videos

        samples = world_samples(
            config.world,
            questions=config.questions,
            per_type=config.questions_per_type,
            seed=config.seed,
            folder=config.videos,
            tasks=config.only_tasks,
        )
        if config.videos:
            write_videos(config.world, samples)
        return samples, world_hash(config.world, samples)
    samples = load_benchmark(config.benchmark, config.data, config.videos, form=config.form)
    if config.only_tasks:
        samples = _of_tasks(samples, config.only_tasks)
    return evenly(samples, config.questions), data_hash(config.data)


def _of_tasks(samples: list[Sample], tasks: Sequence[str]) -> list[Sample]:
    """Return the questions of these tasks. Raises BenchmarkError for one that nobody asks."""
    known = sorted({s.task for s in samples})
    unknown = sorted(set(tasks) - set(known))
    if unknown:
        raise BenchmarkError(
            f"only_tasks must name tasks of the benchmark: {', '.join(known)}. Got '{unknown[0]}'."
        )
    return [s for s in samples if s.task in tasks]


def evenly(samples: list[T], most: int) -> list[T]:
    """Return at most `most` samples, evenly chosen in their order; 0 means all."""
    if not most or len(samples) <= most:
        return samples
    picked = np.linspace(0, len(samples) - 1, most).round().astype(int)
    return [samples[i] for i in picked]


def make_loader(config: EvaluateConfig, encoder: DualEncoder) -> Loader:
    """Return what turns the benchmark's paths into footage."""
    if config.benchmark == "world" and not config.videos:
        from marc_core.evaluation.datasets.world import WorldLoader

        return WorldLoader(config.world, config.video.sample_fps)
    return FileLoader(config, encoder)
