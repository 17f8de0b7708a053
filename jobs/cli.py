"""The `marc` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.dedup import dedup
from jobs.demo import demo
from jobs.errors import clear_errors
from jobs.evaluate import evaluate
from jobs.export import export, import_
from jobs.gc import gc
from jobs.index import index
from jobs.keys import app as keys_app
from jobs.mcp import mcp
from jobs.prune import prune
from jobs.push import push
from jobs.query import ask, search
from jobs.reload import reload
from jobs.serve import serve
from jobs.status import status
from jobs.submit import submit
from jobs.summarize import summarize
from jobs.train_cgrpo import train
from jobs.train_set import train_set
from jobs.upkeep import delete, optimize
from jobs.videos import videos
from jobs.watch import watch

app = typer.Typer(
    name="marc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        import marc_core

        typer.echo(f"marc {marc_core.__version__} ({Path(marc_core.__file__).parents[1]})")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print version and place."
        ),
    ] = False,
) -> None:
    """Answers questions about large video archives, on a Ray cluster."""


COMMANDS = (
    demo, index, watch, search, ask, summarize, evaluate, train_set, train, push, status, videos,
    prune, dedup, export, import_, delete, gc, optimize, submit, serve, reload, mcp,
)  # fmt: skip
for command in COMMANDS:
    # Typer would end a command with 1 where nobody reads what it prints.
    name = command.__name__.strip("_").replace("_", "-")
    app.command(name)(clear_errors()(command))
app.add_typer(keys_app)


def main() -> None:
    """Entry point of the console script."""
    with clear_errors():
        app()


if __name__ == "__main__":
    main()
