"""From scored answers to a benchmark's table.

The headline of VSI-Bench (official) is the unweighted mean of its eight tasks, the three
difficulties of relative direction being one task, themselves averaged without weights. All
others are means over questions. Video-R1 reports regression (MRA) apart from accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from marc_core.evaluation.scoring.stats import bootstrap
from marc_core.scoring.answers import Scoring


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One answered question as the tables need it."""

    problem_id: str
    benchmark: str
    task: str
    problem_type: str
    video: str
    score: float
    tags: tuple[str, ...] = ()


def summarise(
    rows: Sequence[Scored],
    scoring: Scoring,
    *,
    by_video: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return {"overall", "mean_acc", "mean_mra", "tasks", "types", "tags"} with intervals as dicts.

    by_video: draw whole videos in the bootstrap. mean_mra is None without regression rows,
    mean_acc without others. Empty input gives overall None and empty tables.
    """

    def interval(part: Sequence[Scored], weights: dict[str, float] | None = None) -> Any:
        if not part:
            return None
        found = bootstrap(
            [r.score for r in part],
            tasks_N=[r.task for r in part] if weights else None,
            task_weights=weights,
            clusters_N=[r.video for r in part] if by_video else None,
            resamples=resamples,
            seed=seed,
        )
        return dataclasses.asdict(found)

    regression = [r for r in rows if r.problem_type == "regression"]
    other = [r for r in rows if r.problem_type != "regression"]
    weights = vsi_weights(rows) if macro_headline(rows, scoring) else None
    return {
        "overall": interval(rows, weights),
        "mean_acc": interval(other),
        "mean_mra": interval(regression),
        "tasks": {t: interval(p) for t, p in _group(rows, "task").items()},
        "types": {t: interval(p) for t, p in _group(rows, "problem_type").items()},
        "tags": {t: interval([r for r in rows if t in r.tags]) for t in _tags(rows)},
    }


def macro_headline(rows: Sequence[Scored], scoring: Scoring) -> bool:
    """True where the overall number is the mean of tasks: VSI-Bench, official, tasks known."""
    vsi = bool(rows) and all(r.benchmark == "vsi-bench" and r.task for r in rows)
    return vsi and scoring == "official"


def vsi_weights(rows: Sequence[Scored]) -> dict[str, float]:
    """Return each task's weight in VSI-Bench's overall: 1, the directions together 1."""
    tasks = {r.task for r in rows}
    directions = [t for t in tasks if t.startswith("object_rel_direction")]
    return {t: 1 / len(directions) if t in directions else 1.0 for t in tasks}


def _group(rows: Sequence[Scored], field: str) -> dict[str, list[Scored]]:
    groups: dict[str, list[Scored]] = {}
    for row in rows:
        groups.setdefault(getattr(row, field) or "(none)", []).append(row)
    return dict(sorted(groups.items()))


def _tags(rows: Sequence[Scored]) -> list[str]:
    return sorted({tag for row in rows for tag in row.tags})
