"""The JSON result of a run: manifest, one summary a variant, one compact row an answer.

{"format": 2, "manifest": {...}, "variants": {name: summary}, "rows": [...], "seconds": ...}
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marc_core.errors import MarcError
from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.results.aggregate import summarise
from marc_core.evaluation.results.prediction import ANSWERED, FAILED, MISSING, Prediction, scored
from marc_core.evaluation.variants.evidence import TOP
from marc_core.scoring.answers import SCORINGS

FORMAT = 2

SAME_TO_COMPARE = ("benchmark", "data_hash", "questions", "prompt")
"""Manifest fields that must agree before two results can be compared question by question."""


class ResultError(MarcError):
    """A result file is missing, of another format, or does not fit another one."""


def make_result(
    config: EvaluateConfig,
    manifest: dict[str, Any],
    predictions: Sequence[Prediction],
    seconds: float,
) -> dict[str, Any]:
    """Return the result as plain JSON values. seconds: wall-clock time of this run."""
    order = {name: i for i, name in enumerate(config.chosen_variants())}
    rows = sorted(predictions, key=lambda o: (order[o.variant], o.problem_id))
    by_variant = {variant: [o for o in rows if o.variant == variant] for variant in order}
    result = {
        "format": FORMAT,
        "manifest": manifest,
        "seconds": seconds,
        "variants": {
            variant: summary(config, part) for variant, part in by_variant.items() if part
        },
        "rows": [_row(o) for o in rows],
    }
    # A fresh result equals the same one read back from its file, lists for tuples included.
    return dict(json.loads(json.dumps(result)))


def summary(config: EvaluateConfig, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return one variant's tables: scores, counts, tokens, seconds, memory, retrieval."""
    done = [o for o in predictions if o.status == ANSWERED]
    failed = Counter(o.error.split(":", 1)[0] for o in predictions if o.status == FAILED)
    return {
        "questions": len(predictions),
        "answered": len(done),
        "missing": sum(o.status == MISSING for o in predictions),
        "failed": dict(failed),
        "scores": {
            scoring: summarise(
                scored(done, scoring),
                scoring,
                by_video=config.by_video,
                resamples=config.resamples,
                seed=config.seed,
            )
            for scoring in SCORINGS
        },
        "scorings_differ": sum(o.differs for o in done),
        "tokens": {
            name: mean([float(getattr(o, name)) for o in done])
            for name in ("visual_tokens", "visual_tokens_before", "prompt_tokens",
                         "generated_tokens")
        },
        "seconds": step_table([o.timings_s for o in done]),
        "alone_s": step_table([o.alone_s for o in done if o.alone_s]),
        "memory": {
            "peak_rss_bytes": max((o.peak_rss_bytes for o in done), default=0),
            "peak_gpu_bytes": max((o.peak_gpu_bytes for o in done), default=0),
            "kv_cache_bytes": mean([float(o.kv_cache_bytes) for o in done]),
        },
        "retrieval": retrieval(done),
    }  # fmt: skip


def retrieval(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return recall of evidence on questions that name one event, what a random order of the
    same events would reach, and the share of all evidence that was shown."""
    named = [o.evidence_rank for o in predictions if o.evidence_rank]
    shown = [o.evidence_shown for o in predictions if o.evidence_shown >= 0]
    recall = {f"recall_at_{k}": mean([float(0 < r <= k) for r in named]) for k in TOP}
    by_chance = [o.recall_by_chance for o in predictions if o.recall_by_chance]
    chance = {f"chance_at_{k}": mean([row[str(k)] for row in by_chance]) for k in TOP}
    return {"named": len(named), **recall, **chance, "evidence_shown": mean(shown)}


def step_table(timings: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return {step: {"mean", "p50", "p95"}} in seconds, steps in order of their first use."""
    steps = dict.fromkeys(step for row in timings for step in row)
    table = {}
    for step in steps:
        values = np.array([row[step] for row in timings if step in row])
        p50, p95 = np.percentile(values, [50, 95])
        table[step] = {"mean": float(values.mean()), "p50": float(p50), "p95": float(p95)}
    return table


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return sum(values) / len(values) if values else None


def _row(prediction: Prediction) -> dict[str, Any]:
    row = dataclasses.asdict(prediction)
    for name in ("benchmark", "timings_s", "alone_s", "peak_rss_bytes", "peak_gpu_bytes",
                 "kv_cache_bytes", "recall_by_chance"):  # fmt: skip
        row.pop(name)
    return row


def load_result(path: str | Path) -> dict[str, Any]:
    """Return a result written by a run. Raises ResultError."""
    file = Path(path)
    if file.is_dir():
        file = file / "result.json"
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"'{path}' cannot be read as a result: {error}.") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ResultError(
            f"'{path}' must be a result.json of `marc evaluate`, format {FORMAT}. "
            "Evaluate again with this version."
        )
    return result
