"""`marc videos`: the videos of a memory by name, and what became of each. Needs no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jobs.common import clear_errors, print_json
from jobs.options import BucketSettings, ConfigOption, JsonOption, MemoryOption, open_memory
from jobs.places import below_root
from jobs.terminal import counted, out, plain, say
from marc_core.display import clock, video_name

if TYPE_CHECKING:
    from serving.ports import Row


class State(StrEnum):
    """How a video ended."""

    indexed = "indexed"
    failed = "failed"
    quarantined = "quarantined"


def videos(
    settings: BucketSettings = None,
    memory: MemoryOption = None,
    name: Annotated[str | None, typer.Option(help="Only names that hold these letters.")] = None,
    folder: Annotated[str | None, typer.Option(help="Only in or below this folder.")] = None,
    camera: Annotated[str | None, typer.Option(help="Only of this camera.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    status: Annotated[State | None, typer.Option(help="Only those that ended so.")] = None,
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, help="Videos to list.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Videos of the list to leave out.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the videos of a memory in the order of their addresses.

    Example: marc videos --memory runs/memory --name gate --status indexed
    """
    with clear_errors():
        from marc_core.session import folder_address
        from serving.ports import VideoQuery
        from serving.rows import Listing

        query = VideoQuery(
            status=status, camera=camera, tag=tag, folder=folder_address(folder), name=name,
            limit=limit, offset=offset,
        )  # fmt: skip
        rows, total = Listing(open_memory(memory, config, settings)).videos(query)
        if as_json:
            print_json({"total": total, "videos": rows})
            return
        if rows:
            root, table = video_table(rows)
            out.print(table)
            if root:
                say(f"Folders are below {root}.")
        last = offset + len(rows)
        more = f" Shown: {offset + 1:,} to {last:,}; --offset {last} goes on." if rows else ""
        say(f"{counted(total, 'video')}.{more if len(rows) < total else ''}")


def video_table(rows: Sequence[Row]) -> tuple[str, Table]:
    """Return videos as a table, where names occur twice with a column of folders, and the folder
    that those lie in."""
    names = [video_name(row["uri"]) for row in rows]
    root, places = below_root(row["uri"] for row in rows)
    repeats = len(set(names)) < len(names)
    table = Table("video")
    if repeats:
        table.add_column("folder", overflow="fold")
    for title in ("status", "length", "events", "recorded", "camera", "tags"):
        table.add_column(title)
    for name, row in zip(names, rows, strict=True):
        folder = places[row["uri"]].rstrip("/").rpartition("/")[0] or "."
        cells: tuple[Any, ...] = (
            name,
            *([folder] if repeats else []),
            row["status"],
            "" if row["duration_s"] is None else clock(row["duration_s"]),
            row["num_events"],
            (row["recorded_at"] or "")[:16].replace("T", " "),
            row["camera"] or "",
            ", ".join(row["tags"]),
        )
        table.add_row(*map(plain, cells))
    return root if repeats else "", table
