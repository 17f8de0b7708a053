"""`python -m jobs.train_student`: train a student on a training set, with known answers.

Runs on Ray Train, or in this process with num_workers=0. The same output folder continues an
interrupted run. docs/supervised.md has the recipe of the shipped student.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import AddressOption, ConfigOption, DryRunOption, setting
from jobs.training.entry import run
from marc_core.supervised.config import SupervisedConfig
from marc_core.supervised.run import train_supervised


def main(
    overrides: Annotated[list[str] | None, setting("steps=200")] = None,
    config: ConfigOption = None,
    address: AddressOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier checkpoints.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train a student on what it reads of each question; write a set first (`marc train-set`).

    Example: python -m jobs.train_student --config jobs/configs/train_student.yaml train_set=SET
    """
    files: list[Path] = list(config or [])
    run(
        SupervisedConfig,
        train_supervised,
        overrides=list(overrides or []),
        files=files,
        address=address,
        dry_run=dry_run,
        fresh=fresh,
    )


if __name__ == "__main__":
    typer.run(main)
