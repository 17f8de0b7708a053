"""`python -m jobs.average_students`: one student whose weights are the mean of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.common import clear_errors
from jobs.terminal import say
from marc_core.errors import ConfigError
from marc_core.supervised.averaging import average_students


def main(
    output: Annotated[Path, typer.Argument(help="New folder for the student.")],
    students: Annotated[
        list[str], typer.Argument(help="FOLDER or FOLDER=WEIGHT of each, two at least.")
    ],
) -> None:
    """Average students that went on from one another, or from the same start; measure the result.

    Example: python -m jobs.average_students runs/mean runs/first/student runs/second/student=2
    """
    with clear_errors():
        average_students([_weighted(given) for given in students], output)
        say(f"The student is at {output}")


def _weighted(given: str) -> tuple[Path, float]:
    folder, equals, weight = given.rpartition("=")
    if not equals:
        return Path(given), 1.0
    try:
        return Path(folder), float(weight)
    except ValueError:
        raise ConfigError(
            f"A student is given as FOLDER or FOLDER=WEIGHT, a number. Got '{given}'."
        ) from None


if __name__ == "__main__":
    typer.run(main)
