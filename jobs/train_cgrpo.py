"""`marc train`, and `python -m jobs.train_cgrpo` for `ray job submit`: train a student by C-GRPO.

docs/training.md explains the settings; `jobs/training/controller.py` opens with the whole flow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobs.common import clear_errors, needs_lines, print_json, ray_session
from jobs.options import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    JsonOption,
    PresetOption,
    setting,
)
from jobs.terminal import console, counted, say
from marc_core.config import config_to_yaml, load_config

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig

LOG_STEPS = 10
"""Steps between lines where there is no terminal (job logs)."""


def train(
    overrides: Annotated[list[str] | None, setting("steps=200")] = None,
    preset: PresetOption = "tiny",
    config: ConfigOption = None,
    address: AddressOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget earlier checkpoints; keep teacher answers.")
    ] = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train a student by C-GRPO against its full-token teacher.

    The same output folder continues an interrupted run.

    Example: marc train --config train_cgrpo train_set=runs/train-set
    """
    bar = StepBar()
    from jobs.training.cgrpo_config import CGrpoJobConfig
    from jobs.training.cgrpo_run import check, cpus_asked, forget
    from jobs.training.cgrpo_run import train as run

    with clear_errors(bar.how_far):
        resolved = load_config(
            CGrpoJobConfig, preset=preset, files=config or [], overrides=overrides or []
        )
        if dry_run:
            sys.stdout.write(config_to_yaml(resolved))
            sys.stdout.writelines(f"# {line}\n" for line in plan_lines(resolved))
            return
        check(resolved)  # says what is wrong before Ray takes its time, and before a file is made
        output = Path(resolved.output)
        output.mkdir(parents=True, exist_ok=True)
        if fresh:
            forget(resolved)
        (output / "config.yaml").write_text(config_to_yaml(resolved))
        with ray_session(address, min_cpus=cpus_asked(resolved)), bar:
            student = run(resolved, bar.update)
        report = output / "report.html"
        if as_json:
            print_json({"student": str(student), "report": str(report)})
        else:
            say(f"Trained: {student}. Report: {report}")


def plan_lines(config: CGrpoJobConfig) -> list[str]:
    """Return what a run would do and what it would ask Ray for, as far as it is known here."""
    from jobs.training.cgrpo_run import demand
    from marc_core.errors import MarcError

    if not config.train_set:
        rows = "No training set is named yet: train_set=runs/train-set"
    else:
        rows = _rows_line(config)
    rollout, asked = config.rollout, demand(config)
    cpus, gpus = (
        sum(b.get(kind, 0.0) for own in asked.values() for b in own) for kind in ("CPU", "GPU")
    )
    questions = counted(rollout.questions, "question")
    asked_in_all = counted(config.steps * rollout.questions, "question")
    lines = [
        rows,
        f"{counted(config.steps, 'step')} of {questions} with {counted(rollout.answers, 'answer')}",
        f"{asked_in_all} asked, up to {counted(rollout.max_tokens, 'token')}",
        *(f"{name}: {_bundles(own)}" for name, own in asked.items()),
        f"in all: {cpus:g} CPU, {gpus:g} GPU",
        f"student {config.student.model}, teacher {config.teacher_model().model}",
    ]
    try:
        return [*lines, *needs_lines(config)]
    except MarcError as error:
        return [*lines, f"What the models need cannot be told from here: {error}"]


def _rows_line(config: CGrpoJobConfig) -> str:
    from jobs.training.cgrpo_run import check
    from marc_core.errors import MarcError

    try:
        return f"{counted(len(check(config)), 'question')} in {config.train_set}"
    except MarcError as error:  # a set that only the cluster sees, or is still to be written
        return f"The training set cannot be read from here: {' '.join(str(error).split())}"


def _bundles(own: list[dict[str, float]]) -> str:
    if not own:
        return "none"
    each = ", ".join(f"{amount:g} {kind}" for kind, amount in own[0].items())
    return f"{len(own)} x ({each})"


class StepBar:
    """A bar of steps on a terminal, a line now and then elsewhere; and what happened, at once."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task, self.step, self.said_at = self.bar.add_task("", total=None, shown=""), 0, 0

    def __enter__(self) -> StepBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, state: dict[str, Any]) -> None:
        """Show a state of the controller."""
        for text in state["said"]:
            say(text, "yellow")
        self.step = state["step"]
        names = {"reward": "reward", "score": "accuracy", "eta": "eta"}
        known = {k: state["metrics"][k] for k in names if k in state["metrics"]}
        shown = ", ".join(f"{names[k]} {value:.3f}" for k, value in known.items())
        self.bar.update(self.task, completed=self.step, total=state["steps"], shown=shown)
        if not console.is_terminal and self.step >= self.said_at + LOG_STEPS:
            self.said_at = self.step
            say(f"step {self.step} of {state['steps']}: {shown}")

    def how_far(self) -> str:
        """Return what to say when the user stops the command."""
        if not self.step:
            return "No step was done yet. The same command begins again."
        done = counted(self.step, "step")
        return f"Done: {done}. The same command goes on from the last checkpoint."


def main() -> None:
    """Run `train` as a program of its own."""
    typer.run(train)


if __name__ == "__main__":
    main()
