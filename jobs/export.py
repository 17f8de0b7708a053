"""`marc export` and `marc import`: what a memory holds, for other programs; and a whole memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, print_json
from jobs.filters import with_filter
from jobs.options import (
    BucketSettings,
    ConfigOption,
    JsonOption,
    MemoryOption,
    PresetOption,
    memory_override,
    setting,
)
from jobs.progress import counting_bar
from jobs.terminal import counted, say
from marc_core.errors import ConfigError

if TYPE_CHECKING:
    from marc_core.session import Session

Row = dict[str, Any]
_FORMATS = {
    "memory": ("parquet",),
    "events": ("parquet", "jsonl", "csv", "edl", "webvtt"),
    "texts": ("parquet", "jsonl", "csv", "webvtt"),
    "citations": ("parquet", "jsonl", "csv", "edl", "webvtt"),
}  # fmt: skip
"""What may be written, and how."""


FormatOption = Annotated[
    str, typer.Option("--format", "-f", help="parquet, jsonl, csv, edl or webvtt.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="File, or folder of a whole memory and of the captions of several videos.",
        show_default="standard output",
    ),
]
WhatOption = Annotated[
    str | None,
    typer.Option(
        help="memory (Parquet alone), events, texts or citations.",
        show_default="events; of parquet memory, of --search and --ask citations",
    ),
]
SearchOption = Annotated[str | None, typer.Option("--search", help="Export what this finds.")]
AskOption = Annotated[
    str | None, typer.Option("--ask", help="Export what the answer to this cites.")
]
LimitOption = Annotated[int, typer.Option("-k", "--limit", min=1, help="Citations at most.")]
FpsOption = Annotated[
    float | None,
    typer.Option(help="Frames a second of an EDL.", show_default="that of its videos"),
]


@with_filter()
def export(
    settings: Annotated[list[str] | None, setting("clock.zone=Europe/Berlin")] = None,
    memory: MemoryOption = None,
    format: FormatOption = "jsonl",
    output: OutputOption = None,
    what: WhatOption = None,
    search: SearchOption = None,
    ask: AskOption = None,
    limit: LimitOption = 10,
    fps: FpsOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    *,
    where: dict[str, Any],
) -> None:
    """Write what a memory holds for other programs: a whole memory, events, texts, or what a search
    or an answer cites.

    Times count from a video's own 0:00. --json reports what was written.

    Examples: marc export --memory runs/memory --format parquet -o backup
    marc export --memory runs/memory --what texts --kind speech -f webvtt -o captions
    marc export --memory runs/memory --search "a red circle" -f edl --fps 25 -o circles.edl
    """
    with clear_errors():
        what = _what(what, format, search, ask, output)
        files, overrides = config or (), [*memory_override(memory), *(settings or ())]
        if what == "memory":
            written = _memory(overrides, files, output)
        else:
            from marc_core.session import open_session

            with open_session(preset=preset, files=files, overrides=overrides) as session:
                rows = _rows(session, what, search, ask, limit, where)
                title = search or ask or what
                written = {what: _write(session, rows, what, format, output, title, fps)}
    shown = _counts(written)
    if as_json:
        print_json({"output": None if output is None else str(output), "rows": written})
    elif output is not None:
        say(f"Wrote {shown} to {output}.")


def _counts(rows: Mapping[str, int]) -> str:
    """Return rows by table in words: "1 video, 12 events"."""
    return ", ".join(counted(count, name.removesuffix("s")) for name, count in rows.items())


def _what(
    what: str | None, format: str, search: str | None, ask: str | None, output: Path | None
) -> str:
    """Return what is exported; raise ConfigError for what does not go together."""
    if search is not None and ask is not None:
        raise ConfigError("--search and --ask are two exports: give one of them.")
    cites = search is not None or ask is not None
    chosen = what or ("citations" if cites else "memory" if format == "parquet" else "events")
    if chosen not in _FORMATS:
        raise ConfigError(f"--what must be one of {', '.join(_FORMATS)}. Got '{chosen}'.")
    if cites != (chosen == "citations"):
        raise ConfigError("Citations are of --search TEXT or --ask QUESTION, and of nothing else.")
    if format not in _FORMATS[chosen]:
        listed = ", ".join(_FORMATS[chosen])
        raise ConfigError(f"--format of {chosen} must be one of {listed}. Got '{format}'.")
    if output is None and format == "parquet":
        raise ConfigError("Parquet needs a place: --output FILE (of a whole memory: a folder).")
    return chosen


def _memory(overrides: Sequence[str], files: Sequence[Path], output: Path | None) -> dict[str, int]:
    from marc_core.config import IndexConfig, load_config
    from marc_core.memory.transfer import dump

    assert output is not None, "_what asks for it"
    config = load_config(IndexConfig, files=files, overrides=overrides)
    with counting_bar("exporting") as progress:
        return dump(config.memory, output, progress)


def _rows(
    session: Session,
    what: str,
    search: str | None,
    ask: str | None,
    limit: int,
    where: dict[str, Any],
) -> Iterator[Row]:
    from marc_core.export.rows import citation_rows, event_rows, text_rows

    passing = session.filter(**where)
    if what == "events":
        return event_rows(session.store, passing)
    if what == "texts":
        return text_rows(session.store, passing, passing.kinds)
    if search is not None:
        return citation_rows(session.search(search, limit=limit, **where), asked=search)
    assert ask is not None
    reply = session.ask(ask, k=limit, **where)
    return citation_rows(reply.citations, asked=ask, answer=reply.text)


def _write(
    session: Session,
    rows: Iterator[Row],
    what: str,
    format: str,
    output: Path | None,
    title: str,
    fps: float | None,
) -> int:
    from marc_core.export import files
    from marc_core.export.rows import CITATIONS, EVENTS, TEXTS

    schema = {"events": EVENTS, "texts": TEXTS, "citations": CITATIONS}[what]
    if format == "parquet":
        assert output is not None
        return files.write_parquet(rows, schema, output)
    if format in ("edl", "webvtt"):
        from marc_core.export.players import write_edl, write_webvtt

        listed = list(rows)
        if format == "edl":
            text = write_edl(session.store, listed, title=title, fps=fps)
            _put(output, lambda file: file.write(text))
        else:
            captions = write_webvtt(listed)
            _put_captions(captions, output)
        return len(listed)
    write = files.write_jsonl if format == "jsonl" else files.write_csv
    return int(_put(output, lambda file: write(rows, schema, file)))


def _put(output: Path | None, write: Callable[[IO[str]], Any]) -> Any:
    """Write to a file, which appears when it is complete, or to standard output."""
    from marc_core.export.files import whole_file

    if output is None:
        return write(sys.stdout)
    with (
        whole_file(output) as partial,
        open(partial, "w", encoding="utf-8", newline="") as file,
    ):
        return write(file)


def _put_captions(captions: dict[str, str], output: Path | None) -> None:
    """Write one video's captions to a file, several to files of a folder."""
    if len(captions) <= 1 and (output is None or output.suffix):
        text = next(iter(captions.values()), "WEBVTT\n")
        _put(output, lambda file: file.write(text))
        return
    if output is None or output.suffix:
        raise ConfigError(
            f"Captions of {counted(len(captions), 'video')} are a file each: give --output FOLDER, "
            "or name one video with --video."
        )
    for name, text in captions.items():
        _put(output / name, lambda file, text=text: file.write(text))


def import_(
    folder: Annotated[Path, typer.Argument(help="What `marc export --format parquet` wrote.")],
    settings: BucketSettings = None,
    memory: MemoryOption = None,
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check that it fits and say what it holds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read an exported memory back: an equal memory, row by row, with its fingerprints.

    Files are checked against their SHA-256 first. What was broken off goes on by the same command.

    Example: marc import backup --memory runs/copy
    """
    from marc_core.config import IndexConfig, load_config
    from marc_core.memory.transfer import check_target, load, open_dump

    with clear_errors():
        overrides = [*memory_override(memory), *(settings or ())]
        resolved = load_config(IndexConfig, files=config or (), overrides=overrides)
        found = open_dump(folder)
        check_target(found, resolved.memory)
        rows = dict(found.rows)
        if not dry_run:
            with counting_bar("importing") as progress:
                rows = load(found, resolved.memory, progress)
    if as_json:
        print_json({"memory": resolved.memory.uri, "rows": rows, "imported": not dry_run})
        return
    shown = _counts(rows)
    done = "would be imported" if dry_run else "imported"
    say(f"{shown} {done} into {resolved.memory.uri}.")
