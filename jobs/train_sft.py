"""`python -m jobs.train_sft`: train the tiny preset's student on the synthetic world.

Runs on Ray Train, or in this process with num_workers=0. The same output folder continues an
interrupted run. docs/tiny.md has the recipe of the shipped weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import AddressOption, ConfigOption, DryRunOption, setting
from jobs.training.entry import run
from marc_core.tiny.config import SftConfig
from marc_core.tiny.run import train_student


def main(
    overrides: Annotated[list[str] | None, setting("batch_size=16")] = None,
    config: ConfigOption = None,
    address: AddressOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier checkpoints.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train the tiny student on the synthetic world.

    Example: python -m jobs.train_sft --config jobs/configs/train_sft.yaml num_workers=0
    """
    files: list[Path] = list(config or [])
    run(
        SftConfig,
        train_student,
        overrides=list(overrides or []),
        files=files,
        address=address,
        dry_run=dry_run,
        fresh=fresh,
    )


if __name__ == "__main__":
    typer.run(main)
