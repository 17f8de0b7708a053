"""The `marc` command."""

from __future__ import annotations

import typer

from jobs.demo import demo
from jobs.evaluate import evaluate
from jobs.index import index
from jobs.query import ask, delete, search, status
from jobs.submit import submit

app = typer.Typer(
    name="marc",
    help="Answers questions about large video archives, on a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (demo, index, search, ask, evaluate, status, delete, submit):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
