"""The HTML report: one file, no network, no scripts. Plots are SVG inside the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from marc_core.scoring.answers import SCORINGS

COLOURS = ("#2f5d8a", "#c2571a", "#3d7d5a", "#8a3f6d", "#7a6a2f", "#4a4a4a")
_INK, _GRID = "#222222", "#d9d9d9"
STEPS = ("decode", "embed", "retrieve", "vision", "compress", "generate")
"""Steps of a question, in their order."""
MAX_EXAMPLES = 40
MAX_BARS = 4
"""Variants drawn as bars of every task; the table has all of them."""


def render_report(result: dict[str, Any]) -> str:
    """Return the report of a result as one HTML document."""
    import jinja2

    source = (
        resources.files("marc_core.evaluation.report").joinpath("report.html.jinja").read_text()
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": _percent, "bytes": _bytes, "ms": _ms}
    scoring = result["manifest"]["scoring"]
    variants = result["variants"]
    return environment.from_string(source).render(
        result=result,
        manifest=result["manifest"],
        scoring=scoring,
        shown=SCORINGS if any(a["scorings_differ"] for a in variants.values()) else (scoring,),
        variants=variants,
        tasks=_names(variants, scoring, "tasks"),
        tags=_names(variants, scoring, "tags"),
        steps=[s for s in STEPS if any(s in a["seconds"] for a in variants.values())],
        plots=[plot for plot in (overall_plot(variants, scoring), task_plot(variants, scoring),
                               time_plot(variants)) if plot],
        examples=_examples(result, scoring),
    )  # fmt: skip


def overall_plot(variants: dict[str, Any], scoring: str) -> str:
    """Return accuracy and interval of every variant, over its visual tokens, as SVG."""
    points = [(n, a["tokens"]["visual_tokens"], a["scores"][scoring]["overall"])
              for n, a in variants.items() if a["scores"][scoring]["overall"]]  # fmt: skip
    if not points:
        return ""
    figure, axes = new_figure(7.2, 0.6 + 0.34 * len(points))
    for y, (_, _, overall) in enumerate(reversed(points)):
        mean, low, high = (100 * overall[k] for k in ("mean", "low", "high"))
        axes.plot([low, high], [y, y], color=COLOURS[0], linewidth=1.5)
        axes.plot(mean, y, "o", color=COLOURS[0], markersize=5)
        axes.annotate(f"{mean:.1f}", (high, y), xytext=(5, -3), textcoords="offset points",
                      fontsize=8, color=_INK)  # fmt: skip
    labels = [f"{n}  ({t:.0f} tokens)" for n, t, _ in reversed(points)]
    axes.set_yticks(range(len(points)), labels)
    axes.set_xlabel("score in percent, with 95 % interval")
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    return svg(figure, "Score of every variant")


def task_plot(variants: dict[str, Any], scoring: str) -> str:
    """Return bars of every task for the first variants, as SVG; nothing for a single task."""
    tasks = _names(variants, scoring, "tasks")
    shown = dict(list(variants.items())[:MAX_BARS])
    if len(tasks) < 2:
        return ""
    height = 0.8 / len(shown)
    figure, axes = new_figure(7.2, 0.7 + len(tasks) * (0.12 * len(shown) + 0.14))
    for i, (name, variant) in enumerate(shown.items()):
        table = variant["scores"][scoring]["tasks"]
        y = [t + (i - (len(shown) - 1) / 2) * height for t in range(len(tasks))]
        x = [100 * table[t]["mean"] if t in table else 0.0 for t in tasks]
        axes.barh(y, x, height=height * 0.9, color=COLOURS[i], label=name)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("score in percent")
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure, "Score of every task")


def time_plot(variants: dict[str, Any]) -> str:
    """Return mean seconds a question by step, stacked, as SVG."""
    shown = [(n, a["seconds"]) for n, a in variants.items() if a["seconds"]]
    if not shown:
        return ""
    figure, axes = new_figure(7.2, 0.6 + 0.34 * len(shown))
    left = [0.0] * len(shown)
    for step, colour in zip(STEPS, COLOURS, strict=True):
        width = [1000 * s.get(step, {"mean": 0.0})["mean"] for _, s in shown]
        axes.barh(range(len(shown)), width, left=left, height=0.6, color=colour, label=step)
        left = [a + b for a, b in zip(left, width, strict=True)]
    axes.set_yticks(range(len(shown)), [n for n, _ in shown])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a question")
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure, "Time of every step")


def new_figure(width_in: float, height_in: float) -> tuple[Any, Any]:
    """Return an empty (figure, axes) in the reports' style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, max(1.2, height_in)))
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=_INK)
    axes.tick_params(axis="x", labelsize=8, labelcolor=_INK)
    return figure, axes


def svg(figure: Any, label: str) -> str:
    """Return the figure as an <svg> element with a label for screen readers."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _names(variants: dict[str, Any], scoring: str, table: str) -> list[str]:
    return sorted({name for a in variants.values() for name in a["scores"][scoring][table]})


def _examples(result: dict[str, Any], scoring: str) -> Sequence[dict[str, Any]]:
    """Return questions on which variants disagree, evenly chosen over the run."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        if row["scores"]:
            by_id.setdefault(row["problem_id"], []).append(row)
    mixed = [rows for rows in by_id.values() if len({r["scores"][scoring] > 0.5 for r in rows}) > 1]
    step = max(1, -(-len(mixed) // MAX_EXAMPLES))
    return [
        {
            "problem_id": rows[0]["problem_id"],
            "task": rows[0]["task"],
            "solution": rows[0]["solution"],
            "answers": [
                {"variant": r["variant"], "text": r["text"], "right": r["scores"][scoring] > 0.5}
                for r in rows
            ],
        }
        for rows in mixed[::step]
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _ms(value: float) -> str:
    return f"{1000 * value:.1f}" if value < 0.1 else f"{1000 * value:.0f}"


def _bytes(value: float | None) -> str:
    if not value:
        return ""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"
