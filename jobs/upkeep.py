"""`marc delete`, `optimize`: the upkeep of a memory. Neither needs Ray."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.common import clear_errors, print_json
from jobs.options import BucketSettings, ConfigOption, JsonOption, MemoryOption, open_memory
from jobs.prune import YesOption, check_can_ask
from jobs.terminal import counted, out, say

PURGES = "Purging takes a minute: readers that are under way get time to end."


def delete(
    video: Annotated[str, typer.Argument(help="Id, address or file name of the video.")],
    settings: BucketSettings = None,
    memory: MemoryOption = None,
    config: ConfigOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take its bytes off the disk now.")
    ] = False,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a video and everything derived from it from the memory (never the video file).

    Shows it and asks first. Its bytes leave the disk with --purge, now or in a later
    `marc optimize --purge`.

    Example: marc delete door.mp4 --memory runs/memory
    """
    with clear_errors():
        from marc_core.named import named_video

        store = open_memory(memory, config, settings)
        row = named_video(store, video)
        say(f"{row['uri']}: {row['status']}, {counted(row['num_events'] or 0, 'event')}")
        counts: dict[str, int] = {}
        if not dry_run and (yes or _may_delete()):
            if purge:
                say(PURGES)
            own_id = video == row["video_id"]
            counts = store.delete_video(video if own_id else row["uri"], purge=purge)
    if as_json:
        print_json(counts)
    elif counts:
        out.print("deleted " + ", ".join(f"{n} {table}" for table, n in counts.items()))
    else:
        say("Nothing was deleted.")


def _may_delete() -> bool:
    """Ask. Raises ConfigError where there is nobody to ask."""
    check_can_ask()
    return typer.confirm("Delete it from the memory?", err=True)


def optimize(
    settings: BucketSettings = None,
    memory: MemoryOption = None,
    config: ConfigOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take the bytes of deleted videos off the disk.")
    ] = False,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Delete what dead writers left; only while nobody writes."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compact a memory, extend its indexes, remove old versions.

    Readers and writers may go on meanwhile, but for --orphans.

    Example: marc optimize --memory runs/memory --purge
    """
    from marc_core.memory.gc import GcPolicy

    with clear_errors():
        store = open_memory(memory, config, settings)
        if purge:
            say(PURGES)
        counts = store.gc(GcPolicy(orphans=orphans, purge=purge))
        versions = store.status()["versions"]
    if as_json:
        print_json({"orphans": counts, "versions": versions})
    elif orphans:
        out.print("deleted " + ", ".join(f"{n} orphaned {table}" for table, n in counts.items()))
    else:
        done = "compacted, indexes extended, old versions removed"
        out.print(f"optimized: {done}{', deleted videos purged' if purge else ''}")
