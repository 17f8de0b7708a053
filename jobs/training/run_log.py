"""What a run writes for people, on the node that started it.

<output>/curves.jsonl       one line a logged step: means since the last one
<output>/samples.jsonl      a few questions of each logged step with all answers
<output>/events.jsonl       deaths, restarts, why it ended
trackers                    the curve again: TensorBoard, W&B, MLflow (jobs.training.trackers)
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from jobs.training.trackers import Tracker, open_trackers
from marc_core.training.session import append_curve

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig

STAGE = "cgrpo"
CURVES, SAMPLES, EVENTS = "curves.jsonl", "samples.jsonl", "events.jsonl"


class RunLog:
    """Writes as the run goes; a run that goes on appends, and the last line of a step counts."""

    def __init__(self, config: CGrpoJobConfig) -> None:
        self.config, self.output = config, Path(config.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.last: dict[str, float] = {}
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._unsaid: list[str] = []
        self._trackers: list[Tracker] = []

    def begin(self, step: int) -> None:
        """Start, or start over, behind this step."""
        self._seen.clear()
        self.close()
        self._trackers = open_trackers(self.config, step)

    def step(self, step: int, metrics: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Take a step's metrics; every `log_every` steps, and at the end, write their means."""
        for name, value in metrics.items():
            self._seen[name].append(value)
        if step % self.config.log_every and step != self.config.steps:
            return
        self.last = {name: fmean(values) for name, values in self._seen.items()}
        self._seen.clear()
        append_curve(self.output, STAGE, step, self.last)
        for sample in samples:
            self._append(SAMPLES, {"step": step, **sample})
        grouped = {f"{_group(name)}/{name}": value for name, value in self.last.items()}
        for tracker in self._trackers:
            tracker.log(step, grouped)

    def say(self, text: str) -> None:
        """Take what people should know at once."""
        self._unsaid.append(text)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._append(EVENTS, {"at": now, "event": text})

    def unsaid(self) -> list[str]:
        """Return what was said since the last call."""
        found, self._unsaid = self._unsaid, []
        return found

    def close(self) -> None:
        """Close all trackers."""
        for tracker in self._trackers:
            tracker.close()
        self._trackers = []

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.output / name).open("a") as file:
            file.write(json.dumps(line) + "\n")


def _group(name: str) -> str:
    """Return the page of a tracker on which a metric stands."""
    if name.endswith("_s") or name.startswith(("idle_", "queued_")):
        return "time"
    return "train"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a .jsonl file, none where there is no file."""
    return [json.loads(x) for x in path.read_text().splitlines()] if path.is_file() else []


def curve(output: Path) -> list[dict[str, Any]]:
    """Return the points of a run's curve by step; of a step that was done twice the later one."""
    return [p for _, p in sorted({p["step"]: p for p in read_lines(output / CURVES)}.items())]
