"""What became of one question under one variant: the row that every table is made of.

Rows are written as Parquet shards, one a video, and read back by a rerun, the report and
`compare`; OUTCOMES is their schema.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.results.aggregate import Scored
from marc_core.evaluation.scoring import metrics
from marc_core.scoring.answers import SCORINGS, Scoring

ANSWERED, MISSING, FAILED = "answered", "missing", "failed"
"""Values of `status`. missing: the video file is not there. failed: `error` says why."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One question under one variant.

    scores: by scoring, in [0, 1]; empty unless answered.
    events: indices of the events that the student saw, in order of time.
    evidence_rank: rank of the best event with evidence in the retrieval, from 1; 0 where the
        question does not name one event or nothing was retrieved; -1 where no event holds it.
    recall_by_chance: what a random order of this video's events would reach in the top 1 and top
        3 for such a question; empty where evidence_rank is 0.
    evidence_shown: share of the events with evidence that the student saw; -1 without any.
    timings_s: wall-clock seconds by step. Steps that one call did for several questions (decode,
        vision, generate) are divided equally among them.
    alone_s: steps timed for this question by itself; empty unless it was probed.
    """

    problem_id: str
    variant: str
    video: str
    benchmark: str
    task: str
    tags: tuple[str, ...]
    problem_type: str
    status: str
    text: str = ""
    solution: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    visual_tokens: int = 0
    visual_tokens_before: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    events: tuple[int, ...] = ()
    evidence_rank: int = 0
    recall_by_chance: dict[str, float] = field(default_factory=dict)
    evidence_shown: float = -1.0
    timings_s: dict[str, float] = field(default_factory=dict)
    alone_s: dict[str, float] = field(default_factory=dict)
    peak_rss_bytes: int = 0
    peak_gpu_bytes: int = 0
    kv_cache_bytes: int = 0
    error: str = ""

    def score(self, scoring: Scoring) -> float | None:
        """Return the score under `scoring`, or None where there is no answer."""
        return self.scores.get(scoring)

    @property
    def differs(self) -> bool:
        """True where the two scorings do not agree."""
        return len(set(self.scores.values())) > 1


def answered(sample: Sample, variant: str, text: str, **facts: Any) -> Prediction:
    """Return the prediction of an answer, scored under both scorings."""
    scores: dict[str, float] = {
        scoring: metrics.score(sample, text, scoring) for scoring in SCORINGS
    }
    return Prediction(
        **_identity(sample, variant), status=ANSWERED, text=text, scores=scores, **facts
    )


def unanswered(sample: Sample, variant: str, status: str, error: str) -> Prediction:
    """Return the prediction of a question that could not be asked, with the reason."""
    return Prediction(**_identity(sample, variant), status=status, error=error[:2000])


def _identity(sample: Sample, variant: str) -> dict[str, Any]:
    return {
        "problem_id": sample.problem_id,
        "variant": variant,
        "video": sample.path,
        "benchmark": sample.benchmark,
        "task": sample.task,
        "tags": sample.tags,
        "problem_type": sample.problem_type,
        "solution": sample.solution,
    }


def scored(predictions: Iterable[Prediction], scoring: Scoring) -> list[Scored]:
    """Return the answered predictions as the tables need them."""
    rows = []
    for prediction in predictions:
        value = prediction.score(scoring)
        if value is not None:
            rows.append(
                Scored(
                    problem_id=prediction.problem_id,
                    benchmark=prediction.benchmark,
                    task=prediction.task,
                    tags=prediction.tags,
                    problem_type=prediction.problem_type,
                    video=prediction.video,
                    score=value,
                )
            )
    return rows


_ARROW = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "tuple[str, ...]": pa.list_(pa.string()),
    "tuple[int, ...]": pa.list_(pa.int64()),
    "dict[str, float]": pa.string(),
}

OUTCOMES = pa.schema([(f.name, _ARROW[str(f.type)]) for f in dataclasses.fields(Prediction)])
"""Arrow schema of Prediction; dictionaries are JSON text."""


def to_table(predictions: Sequence[Prediction]) -> pa.Table:
    """Return predictions as one Arrow table."""
    rows = []
    for prediction in predictions:
        row = dataclasses.asdict(prediction)
        rows.append({k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()})
    return pa.Table.from_pylist(rows, schema=OUTCOMES)


def from_table(table: pa.Table) -> list[Prediction]:
    """Return the predictions of a table written by `to_table`."""
    predictions = []
    for row in table.to_pylist():
        for name in ("scores", "recall_by_chance", "timings_s", "alone_s"):
            row[name] = json.loads(row[name])
        predictions.append(Prediction(**row | {k: tuple(row[k]) for k in ("tags", "events")}))
    return predictions
