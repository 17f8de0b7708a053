"""A result's tables as Markdown, for docs/results.md and pull requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marc_core.scoring.answers import SCORINGS


def render_markdown(result: dict[str, Any]) -> str:
    """Return the tables of a result: scores, tasks, time and memory, and what they rest on."""
    manifest, variants = result["manifest"], result["variants"]
    scoring = manifest["scoring"]
    parts = [
        _scores(variants, scoring),
        _tasks(variants, scoring),
        _costs(variants),
        _basis(result),
    ]
    return "\n".join(parts)


def _scores(variants: dict[str, Any], scoring: str) -> str:
    differ = any(variant["scorings_differ"] for variant in variants.values())
    scorings = SCORINGS if differ else (scoring,)
    head = ["variant", *scorings, "visual tokens", "before merging", "evidence in top 3 (chance)",
            "evidence shown", "answered"]  # fmt: skip
    rows = []
    for name, variant in variants.items():
        tokens, found = variant["tokens"], variant["retrieval"]
        named = bool(found["named"])
        rows.append(
            [
                name,
                *(_interval(variant["scores"][v]["overall"]) for v in scorings),
                _number(tokens["visual_tokens"]),
                _number(tokens["visual_tokens_before"]),
                f"{_percent(found['recall_at_3'])} ({_percent(found['chance_at_3'])})"
                if named
                else "",
                "" if found["evidence_shown"] is None else _percent(found["evidence_shown"]),
                f"{variant['answered']} of {variant['questions']}",
            ]
        )
    return _table(head, rows)


def _tasks(variants: dict[str, Any], scoring: str) -> str:
    """One row a task and tag, one column a variant."""
    rows = []
    for table in ("tasks", "tags"):
        names = sorted(
            {n for variant in variants.values() for n in variant["scores"][scoring][table]}
        )
        for name in names:
            cells = [variant["scores"][scoring][table].get(name) for variant in variants.values()]
            num = next(c["num"] for c in cells if c)
            label = name if table == "tasks" else f"*{name}*"
            rows.append([label, str(num), *(_percent(c["mean"]) if c else "" for c in cells)])
    return _table(["task", "questions", *variants], rows)


def _costs(variants: dict[str, Any]) -> str:
    steps = list(dict.fromkeys(s for variant in variants.values() for s in variant["seconds"]))
    head = ["variant", *(f"{s} ms" for s in steps), "prefill ms", "token ms", "KV cache KiB"]
    rows = []
    for name, variant in variants.items():
        alone = variant["alone_s"]
        rows.append(
            [
                name,
                *(_ms(variant["seconds"].get(s), "mean") for s in steps),
                _ms(alone.get("prefill"), "p50"),
                _ms(alone.get("token"), "p50"),
                _number((variant["memory"]["kv_cache_bytes"] or 0) / 1024),
            ]
        )
    return _table(head, rows)


def _basis(result: dict[str, Any]) -> str:
    manifest = result["manifest"]
    hardware = manifest["hardware"]
    machine = f"{hardware['cores']} cores, {hardware['memory_gib']:.0f} GiB"
    if hardware["gpus"]:
        machine += ", " + ", ".join(hardware["gpus"])
    return (
        f"{manifest['benchmark']}: {manifest['questions']} questions about {manifest['videos']} "
        f"videos (data {manifest['data_hash']}), student {manifest['student']} "
        f"`{manifest['student_fingerprint']}`, encoder {manifest['encoder']} "
        f"`{manifest['encoder_fingerprint']}`, prompt {manifest['prompt']}, {machine}, "
        f"{result['seconds']:.0f} s. Percent, with 95 % bootstrap intervals.\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _interval(overall: dict[str, Any] | None) -> str:
    if overall is None:
        return ""
    return f"{_percent(overall['mean'])} ({_percent(overall['low'])} - {_percent(overall['high'])})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _ms(step: dict[str, float] | None, which: str) -> str:
    return "" if step is None else f"{1000 * step[which]:.1f}"
