"""`marc train-set`, and `python -m jobs.train_set` for `ray job submit`: write a training set."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from jobs.common import clear_errors, print_json, ray_session
from jobs.options import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    JsonOption,
    PresetOption,
    setting,
)
from jobs.progress import progress_bar
from jobs.terminal import console, counted, say
from marc_core.config import config_to_yaml, load_config

SHOWN = 5
"""Failed videos that are named on the terminal; the set's tables hold all."""


def train_set(
    settings: Annotated[list[str] | None, setting("num_videos=200")] = None,
    preset: PresetOption = "tiny",
    config: ConfigOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write what a student reads of each training question, once.

    Events are retrieved and their tokens cut as `marc ask` does it. A rerun does what is missing;
    videos that cannot be read are recorded. The address printed at the end is what
    `python -m jobs.train_student` trains on.

    Example: marc train-set num_videos=200 output=runs/train-set
    """
    from marc_core.train_set.config import TrainSetConfig

    bar = progress_bar("writing", "written")
    with clear_errors(bar.how_far):
        resolved = load_config(
            TrainSetConfig, preset=preset, files=config or [], overrides=settings or []
        )
        if dry_run:
            from pipelines.train_set import missing, open_source, plan_shards, set_shards

            sys.stdout.write(config_to_yaml(resolved))
            shards = set_shards(resolved)
            work = plan_shards(open_source(resolved).paths(), resolved.videos_per_shard)
            todo = missing(work, shards)
            sys.stdout.write(f"# {len(todo)} of {len(work)} shards to write: {shards.address}\n")
            return
        from pipelines.train_set import write_train_set

        with ray_session(address), bar as progress:
            report = write_train_set(resolved, progress)
        if as_json:
            print_json(report.to_json())
        else:
            for path, reason in list(report.failed.items())[:SHOWN]:
                console.print(f"no rows of {path}: {reason}", markup=False)
            console.print(
                f"{counted(report.questions, 'question')} about {counted(report.videos, 'video')} "
                f"({len(report.failed):,} failed) in {report.wall_s:.0f} s", markup=False
            )  # fmt: skip
            console.print(report.address, markup=False, soft_wrap=True)
    if report.failed_fraction > resolved.max_failed_fraction:
        say(
            f"error: {report.failed_fraction:.0%} of the videos have no rows, more than "
            f"max_failed_fraction={resolved.max_failed_fraction:g}.",
            "bold red",
        )
        raise typer.Exit(1)


def main() -> None:
    """Run `train_set` as a program of its own."""
    with clear_errors():
        typer.run(train_set)


if __name__ == "__main__":
    main()
