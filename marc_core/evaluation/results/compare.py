"""Two results, question by question: where they differ, and whether that can be chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from marc_core.evaluation.results.result import SAME_TO_COMPARE, ResultError
from marc_core.evaluation.scoring.stats import paired
from marc_core.scoring.answers import Scoring

Rows = Mapping[str, Mapping[str, Any]]


def compare_results(
    a: dict[str, Any],
    b: dict[str, Any],
    *,
    variant_a: str | None = None,
    variant_b: str | None = None,
    scoring: Scoring = "official",
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return {"variants": [...], "only_settings": ...}: one comparison a variant, b minus a.

    variant_a, variant_b: compare these two variants (of one result or of two); by default every
    variant that both results hold is compared with itself. Intervals draw whole videos. Raises
    ResultError when questions, data or prompt differ, or there is no common variant.
    """
    differing = [k for k in SAME_TO_COMPARE if a["manifest"][k] != b["manifest"][k]]
    if differing:
        pairs = ", ".join(f"{k}: {a['manifest'][k]} / {b['manifest'][k]}" for k in differing)
        raise ResultError(
            f"Results can be compared only on the same questions and prompt. Got {pairs}."
        )
    common = [name for name in a["variants"] if name in b["variants"]]
    first = variant_a or variant_b
    names = [(variant_a or first, variant_b or first)] if first else [(n, n) for n in common]
    for result, side, name in ((a, "first", names[0][0] if names else None),
                               (b, "second", names[0][1] if names else None)):  # fmt: skip
        if name not in result["variants"]:
            raise ResultError(
                f"The {side} result has the variants {', '.join(result['variants'])}. Got '{name}'."
            )
    return {
        "scoring": scoring,
        "changed": changed(a["manifest"], b["manifest"]),
        "variants": [
            _compared(
                rows_of(a, str(x)), rows_of(b, str(y)), str(x), str(y), scoring, resamples, seed
            )
            for x, y in names
        ],
    }


def rows_of(result: dict[str, Any], variant: str) -> dict[str, dict[str, Any]]:
    """Return the answered rows of one variant by problem_id."""
    return {r["problem_id"]: r for r in result["rows"] if r["variant"] == variant and r["scores"]}


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


def _compared(
    a: Rows, b: Rows, variant_a: str, variant_b: str, scoring: Scoring, resamples: int, seed: int
) -> dict[str, Any]:
    ids = [i for i in a if i in b]
    if not ids:
        raise ResultError(
            f"Variants '{variant_a}' and '{variant_b}' answered no question in common."
        )
    tasks = sorted({str(a[i]["task"]) for i in ids})
    return {
        "a": variant_a,
        "b": variant_b,
        "only_in_one": len(a) + len(b) - 2 * len(ids),
        "overall": _pair(a, b, ids, scoring, resamples, seed),
        "tasks": {
            task: _pair(a, b, [i for i in ids if a[i]["task"] == task], scoring, resamples, seed)
            for task in tasks
        },
        "flips": _flips(a, b, ids, scoring),
    }


def _pair(
    a: Rows, b: Rows, ids: Sequence[str], scoring: Scoring, resamples: int, seed: int
) -> dict[str, Any]:
    x = [float(a[i]["scores"][scoring]) for i in ids]
    y = [float(b[i]["scores"][scoring]) for i in ids]
    found = paired(x, y, clusters_N=[a[i]["video"] for i in ids], resamples=resamples, seed=seed)
    means = {"mean_a": sum(x) / len(x), "mean_b": sum(y) / len(y)}
    return means | dataclasses.asdict(found)


def _flips(a: Rows, b: Rows, ids: Sequence[str], scoring: Scoring) -> list[dict[str, Any]]:
    """Return the questions that exactly one of the two has right."""
    flips = []
    for i in ids:
        x, y = a[i]["scores"][scoring] > 0.5, b[i]["scores"][scoring] > 0.5
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
