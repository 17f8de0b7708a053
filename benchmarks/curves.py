"""Draw the curves of training runs, one behind the other, a panel for each value.

    python -m benchmarks.curves docs/images/curves.svg loss,token_accuracy runs/train-student ...

Each run is a folder with curves.jsonl, or such a file. Stages are named where they begin.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

WINDOW = 4
"""Points of a moving mean, drawn over the points themselves."""


def main() -> None:
    """Parse arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("values", help="names of values, separated by commas")
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    points = [p for run in arguments.runs for p in read_curve(run)]
    draw(points, arguments.values.split(","), arguments.picture)


def read_curve(run: Path) -> list[dict[str, Any]]:
    """Return the points of a run in order; of steps done twice after a restart, the later one."""
    lines = (run / "curves.jsonl" if run.is_dir() else run).read_text().splitlines()
    points = [json.loads(line) for line in lines]
    return list({(p["stage"], p["step"]): p for p in points}.values())


def draw(points: list[dict[str, Any]], values: list[str], picture: Path) -> None:
    """Write an SVG with a panel for each value over the steps of all runs."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "curves", "font.size": 8})
    figure, panels = plt.subplots(
        len(values), 1, figsize=(8, 2 * len(values)), sharex=True, squeeze=False
    )
    for row, (panel, value) in enumerate(zip(panels[:, 0], values, strict=True)):
        _panel(panel, points, value, named=row == 0)
    panels[-1, 0].set_xlabel("optimiser steps of all stages")
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})


def _panel(panel: Any, points: list[dict[str, Any]], value: str, *, named: bool) -> None:
    start, last, previous = 0, 0, points[0]
    steps: list[int] = []
    for point in points:
        if point["stage"] != previous["stage"] or point["step"] <= previous["step"]:
            start = last
            panel.axvline(start, color="0.85", linewidth=0.8)
            if named:
                place = panel.get_xaxis_transform()
                panel.text(start, 1.03, point["stage"], transform=place, rotation=40)
        last = start + point["step"]
        steps.append(last)
        previous = point
    heights = [p.get(value, float("nan")) for p in points]
    panel.plot(steps, heights, ".", color="0.75", markersize=3)
    means = [sum(heights[i : i + WINDOW]) / WINDOW for i in range(len(heights) - WINDOW + 1)]
    panel.plot(steps[WINDOW - 1 :], means, linewidth=1.2)
    panel.set_ylabel(value.replace("_", " "))
    if value in ("loss", "answers"):
        panel.set_yscale("log")


if __name__ == "__main__":
    main()
