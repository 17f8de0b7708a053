"""`marc delete`, `optimize`: the upkeep of a memory. Neither needs Ray."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.common import clear_errors, print_json
from jobs.options import BucketSettings, ConfigOption, JsonOption, MemoryOption, open_memory
from jobs.terminal import out, say

PURGES = "Purging takes a minute: readers that are under way get time to end."


def delete(
    video: Annotated[str, typer.Argument(help="video_id or uri of the video.")],
    settings: BucketSettings = None,
    memory: MemoryOption = None,
    config: ConfigOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take its bytes off the disk now.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a video and everything derived from it from the memory (never the video file).

    Its bytes leave the disk with --purge, now or in a later `marc optimize --purge`.

    Example: marc delete /videos/door.mp4 --memory runs/memory
    """
    with clear_errors():
        store = open_memory(memory, config, settings)
        if purge:
            say(PURGES)
        counts = store.delete_video(video, purge=purge)
    if as_json:
        print_json(counts)
    else:
        out.print("deleted " + ", ".join(f"{n} {table}" for table, n in counts.items()))


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
        out.print("optimized")
