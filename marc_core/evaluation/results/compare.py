"""Two results, question by question: where they differ, and whether that can be chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from marc_core.evaluation.results.result import SAME_TO_COMPARE, ResultError
from marc_core.evaluation.scoring.metrics import Variant
from marc_core.evaluation.scoring.stats import paired

Rows = Mapping[str, Mapping[str, Any]]


def compare_results(
    a: dict[str, Any],
    b: dict[str, Any],
    *,
    arm_a: str | None = None,
    arm_b: str | None = None,
    variant: Variant = "official",
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return {"arms": [...], "only_settings": ...}: one comparison an arm, b minus a.

    arm_a, arm_b: compare these two arms (of one result or of two); by default every arm that
    both results hold is compared with itself. Intervals draw whole videos. Raises ResultError
    when questions, data or prompt differ, or there is no common arm.
    """
    differing = [k for k in SAME_TO_COMPARE if a["manifest"][k] != b["manifest"][k]]
    if differing:
        pairs = ", ".join(f"{k}: {a['manifest'][k]} / {b['manifest'][k]}" for k in differing)
        raise ResultError(
            f"Results can be compared only on the same questions and prompt. Got {pairs}."
        )
    common = [name for name in a["arms"] if name in b["arms"]]
    first = arm_a or arm_b
    names = [(arm_a or first, arm_b or first)] if first else [(n, n) for n in common]
    for result, side, name in ((a, "first", names[0][0] if names else None),
                               (b, "second", names[0][1] if names else None)):  # fmt: skip
        if name not in result["arms"]:
            raise ResultError(
                f"The {side} result has the arms {', '.join(result['arms'])}. Got '{name}'."
            )
    return {
        "variant": variant,
        "changed": changed(a["manifest"], b["manifest"]),
        "arms": [
            _arms(rows_of(a, str(x)), rows_of(b, str(y)), str(x), str(y), variant, resamples, seed)
            for x, y in names
        ],
    }


def rows_of(result: dict[str, Any], arm: str) -> dict[str, dict[str, Any]]:
    """Return the answered rows of one arm by problem_id."""
    return {r["problem_id"]: r for r in result["rows"] if r["arm"] == arm and r["scores"]}


def changed(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> dict[str, list[Any]]:
    """Return every manifest value that differs, by dotted name, as [a, b]; times left out."""
    found: dict[str, list[Any]] = {}
    for key in [*a, *(k for k in b if k not in a)]:
        x, y, name = a.get(key), b.get(key), f"{prefix}{key}"
        if name == "finished_at" or x == y:
            continue
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found |= changed(x, y, f"{name}.")
        else:
            found[name] = [x, y]
    return found


def _arms(
    a: Rows, b: Rows, arm_a: str, arm_b: str, variant: Variant, resamples: int, seed: int
) -> dict[str, Any]:
    ids = [i for i in a if i in b]
    if not ids:
        raise ResultError(f"Arms '{arm_a}' and '{arm_b}' answered no question in common.")
    tasks = sorted({str(a[i]["task"]) for i in ids})
    return {
        "a": arm_a,
        "b": arm_b,
        "only_in_one": len(a) + len(b) - 2 * len(ids),
        "overall": _pair(a, b, ids, variant, resamples, seed),
        "tasks": {
            task: _pair(a, b, [i for i in ids if a[i]["task"] == task], variant, resamples, seed)
            for task in tasks
        },
        "flips": _flips(a, b, ids, variant),
    }


def _pair(
    a: Rows, b: Rows, ids: Sequence[str], variant: Variant, resamples: int, seed: int
) -> dict[str, Any]:
    x = [float(a[i]["scores"][variant]) for i in ids]
    y = [float(b[i]["scores"][variant]) for i in ids]
    found = paired(x, y, clusters_N=[a[i]["video"] for i in ids], resamples=resamples, seed=seed)
    means = {"mean_a": sum(x) / len(x), "mean_b": sum(y) / len(y)}
    return means | dataclasses.asdict(found)


def _flips(a: Rows, b: Rows, ids: Sequence[str], variant: Variant) -> list[dict[str, Any]]:
    """Return the questions that exactly one of the two has right."""
    flips = []
    for i in ids:
        x, y = a[i]["scores"][variant] > 0.5, b[i]["scores"][variant] > 0.5
        if x != y:
            flips.append(
                {
                    "problem_id": i,
                    "task": a[i]["task"],
                    "right": "b" if y else "a",
                    "solution": a[i]["solution"],
                    "text_a": a[i]["text"],
                    "text_b": b[i]["text"],
                }
            )
    return flips
