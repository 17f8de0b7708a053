"""`marc prune`: remove from a memory what is gone from its archive; also `marc index --prune`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, print_json
from jobs.options import (
    ConfigOption,
    JsonOption,
    MemoryOption,
    memory_override,
    quoted,
    split_arguments,
)
from jobs.terminal import console, counted, say
from marc_core.config import IndexConfig, load_config
from marc_core.errors import ConfigError

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")]
EvenEmptyOption = Annotated[
    bool, typer.Option("--even-empty", help="Also where an archive holds no video any more.")
]
_SHOWN = 20


def prune(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARCHIVE... [KEY=VALUE]...",
            help="Folders, files or bucket prefixes to look at.",
            show_default=False,
        ),
    ] = None,
    memory: MemoryOption = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    even_empty: EvenEmptyOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is gone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove the videos from the memory whose files are gone from these places.

    Shows them first. Nothing is removed when a folder cannot be listed. Never touches files. Index
    before pruning: a moved file keeps its events.

    Example: marc prune ~/videos --memory runs/memory
    """
    from marc_core.memory import MemoryStore

    with clear_errors():
        archive, overrides = split_arguments(arguments or [])
        if not archive:
            raise ConfigError("No archive given. Name the folder: marc prune ~/videos")
        given = [f"archive=[{', '.join(quoted(a) for a in archive)}]", *memory_override(memory)]
        resolved = load_config(IndexConfig, files=config or (), overrides=[*given, *overrides])
        store = MemoryStore.open(resolved.memory)
        gone = remove_vanished(store, resolved, yes=yes, even_empty=even_empty, dry_run=dry_run)
        if as_json:
            print_json(gone)


def remove_vanished(
    store: MemoryStore,
    config: IndexConfig,
    *,
    yes: bool,
    even_empty: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Show what is gone, ask, remove it; return {"gone": uris, "deleted": rows by table}.

    Raises ConfigError where there is nobody to ask and `yes` was not given.
    """
    from marc_core.vanished import find_vanished

    rows = find_vanished(store, config, even_empty=even_empty)
    answer: dict[str, Any] = {"gone": [row["uri"] for row in rows], "deleted": {}}
    if not rows:
        say("Nothing is gone.")
        return answer
    events = sum(row["num_events"] or 0 for row in rows)
    say(f"Gone from the archive: {counted(len(rows), 'video')} with {counted(events, 'event')}:")
    for row in rows[:_SHOWN]:
        say(f"  {row['uri']}")
    if len(rows) > _SHOWN:
        say(f"  and {len(rows) - _SHOWN:,} more (--json lists all)")
    if dry_run:
        return answer
    if not yes:
        check_can_ask()
        if not typer.confirm("Remove them from the memory?", err=True):
            say("Nothing was removed.")
            return answer
    answer["deleted"] = store.delete_videos([row["video_id"] for row in rows])
    counts = ", ".join(f"{n:,} {table}" for table, n in answer["deleted"].items())
    say(f"Removed {counts}.")
    return answer


def check_can_ask() -> None:
    """Raise ConfigError where no terminal is there to answer a question."""
    if not (sys.stdin.isatty() and console.is_terminal):
        raise ConfigError(
            "There is no terminal to ask for permission. Give it with --yes, or look first with "
            "--dry-run."
        )
