"""The report of a run: one HTML file with its curves, times, events and sample answers.

Written from what the run has logged, so that it can be made again at any time.
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.training.run_log import EVENTS, SAMPLES, curve, read_lines
from marc_core.config import config_to_yaml
from marc_core.evaluation.report.html import COLOURS, new_figure, svg

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig

REPORT = "report.html"
PLOTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Reward", ("reward",)),
    ("Accuracy", ("score", "a_full", "expected_score")),
    ("Retention and its reward", ("eta", "r_c")),
    ("Groups that teach nothing", ("no_variance",)),
    ("Entropy, nats a token", ("entropy",)),
    ("Divergence", ("kl", "divergence")),
    ("Clipped", ("clip_low", "clip_high")),
    ("Tokens of an answer", ("length",)),
    ("Loss", ("loss",)),
    ("Norm of the gradient", ("grad_norm",)),
    ("Seconds of a step", ("step_s", "wait_s", "update_s", "draw_s", "sync_s")),
    ("Share of time without work", ("idle_learner", "idle_rollout", "idle_teacher")),
    ("Queues", ("queued_asked", "queued_batches")),
)
"""What is drawn, if it was logged."""
MAX_SAMPLES = 12
_SUM_UP = (
    ("reward", "reward"), ("score", "accuracy of the student"), ("a_full", "of the teacher"),
    ("eta", "retention"), ("r_c", "reward for it"), ("no_variance", "groups without variance"),
    ("entropy", "entropy, nats a token"), ("kl", "KL from the start"), ("length", "tokens"),
    ("tokens_per_s", "trained tokens a second"), ("step_s", "seconds of a step"),
    ("idle_learner", "learner idle"), ("idle_rollout", "rollout pool idle"),
    ("idle_teacher", "teacher pool idle"),
)  # fmt: skip


def write_report(config: CGrpoJobConfig, comparison: dict[str, Any] | None = None) -> Path:
    """Write `output`/report.html; return its path. comparison: of `compare_results`, where the
    trained student was evaluated beside the one that it started from."""
    path = Path(config.output) / REPORT
    path.write_text(render_run(config, comparison))
    return path


def render_run(config: CGrpoJobConfig, comparison: dict[str, Any] | None = None) -> str:
    """Return the report as one HTML document."""
    import jinja2

    source = resources.files("jobs.training").joinpath("run_report.html.jinja").read_text()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    output = Path(config.output)
    points, samples = curve(output), read_lines(output / SAMPLES)
    return environment.from_string(source).render(
        config=config,
        settings=config_to_yaml(config),
        points=points,
        rows=_rows(points),
        plots=[plot for title, names in PLOTS if (plot := curve_plot(points, title, names))],
        samples=_spread(samples, MAX_SAMPLES),
        events=read_lines(output / EVENTS),
        comparison=comparison,
    )


def curve_plot(points: list[dict[str, Any]], title: str, names: tuple[str, ...]) -> str:
    """Return these metrics over steps as SVG; nothing where none was logged."""
    shown = [n for n in names if any(_finite(p.get(n)) for p in points)]
    if not shown:
        return ""
    drawing, axes = new_figure(4.4, 2.4)
    for name, colour in zip(shown, COLOURS, strict=False):
        known = [(p["step"], p[name]) for p in points if _finite(p.get(name))]
        marker = "o" if len(known) < 20 else ""
        axes.plot(*zip(*known, strict=True), color=colour, linewidth=1.2, marker=marker,
                  markersize=3, label=name)  # fmt: skip
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(color="#d9d9d9", linewidth=0.6)
    if len(shown) > 1:
        axes.legend(frameon=False, fontsize=7)
    return svg(drawing, title)


def _rows(points: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return (name, first, last) of what sums a run up."""
    if not points:
        return []
    first, last = points[0], points[-1]
    return [
        (text, f"{first[name]:.3f}" if name in first else "", f"{last[name]:.3f}")
        for name, text in _SUM_UP
        if name in last
    ]


def _spread(samples: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    step = max(1, math.ceil(len(samples) / most))
    return samples[::step]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
