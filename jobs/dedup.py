"""`marc dedup`: lists what is the same content in a memory, hides it, shows it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jobs.common import clear_errors, print_json
from jobs.options import ConfigOption, JsonOption, MemoryOption, memory_override, setting
from jobs.places import below_root
from jobs.progress import counting_bar
from jobs.terminal import counted, out, plain, say
from marc_core.display import clock
from marc_core.errors import ConfigError

if TYPE_CHECKING:
    from marc_core.duplicates.config import DedupConfig
    from marc_core.duplicates.find import Duplicate
    from marc_core.memory import MemoryStore


def dedup(
    settings: Annotated[list[str] | None, setting("similarity=0.97")] = None,
    memory: MemoryOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Hide what is listed from every search.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Show again what an earlier --apply has hidden.")
    ] = False,
    kind: Annotated[
        str | None,
        typer.Option(help="Only bytes (equal files), or only similar (equal events in time)."),
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option("--video", help="Only copies that are this video (id, address or file name)."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events and videos that are the same content as others: equal files, and copies whose
    events look alike, are as long and follow at the same distances.

    Without --apply nothing is changed. What is hidden is not found any more, and not lost: --undo
    shows it again, and so does deleting or cutting anew what was kept.

    Examples: marc dedup --memory runs/memory similarity=0.97
    marc dedup --memory runs/memory --kind bytes --apply
    marc dedup --memory runs/memory --undo
    """
    from marc_core.config import load_config
    from marc_core.duplicates.config import DedupConfig
    from marc_core.memory import MemoryStore

    with clear_errors():
        if kind not in (None, "bytes", "similar"):
            raise ConfigError(f"--kind must be bytes or similar. Got '{kind}'.")
        if apply and undo:
            raise ConfigError("--apply hides, --undo shows again: give one of them.")
        overrides = [*memory_override(memory), *(settings or ())]
        resolved = load_config(DedupConfig, files=config or (), overrides=overrides)
        store = MemoryStore.open(resolved.memory)
        ids = None if video is None else [_id_of(store, name) for name in video]
        if undo:
            _undo(store, ids, as_json)
            return
        found = [
            one
            for one in _found(store, resolved)
            if kind in (None, one.kind) and (ids is None or one.video_id in ids)
        ]
        hidden = _hide(store, found) if apply else 0
        if as_json:
            print_json({"duplicates": [_plain(one) for one in found], "hidden": hidden})
        else:
            _print(found, apply, hidden)


def _undo(store: MemoryStore, ids: Sequence[str] | None, as_json: bool) -> None:
    shown = store.show_duplicates(ids)
    if as_json:
        print_json({"shown": shown})
    else:
        out.print(f"Shown again: {counted(shown, 'event')}.")


def _found(store: MemoryStore, config: DedupConfig) -> list[Duplicate]:
    from marc_core.duplicates.find import find_duplicates

    with counting_bar("comparing") as progress:
        return list(find_duplicates(store, config, partial(progress, "videos")))


def _hide(store: MemoryStore, found: Sequence[Duplicate]) -> int:
    events = {key: kept for one in found for key, kept in one.events.items()}
    videos = {one.video_id: one.of_video_id for one in found if one.whole}
    return store.hide_duplicates(events, videos)


def _id_of(store: MemoryStore, name: str) -> str:
    from marc_core.named import named_video

    return str(named_video(store, name)["video_id"])


def _plain(one: Duplicate) -> dict[str, Any]:
    return dataclasses.asdict(one) | {"num_events": len(one.events)}


def _print(found: Sequence[Duplicate], applied: bool, hidden: int) -> None:
    if not found:
        out.print("Nothing that is shown is the same as anything else.")
        return
    root, names = below_root(uri for one in found for uri in (one.uri, one.of_uri))
    table = Table()
    for title in ("video", "same as"):
        table.add_column(title, overflow="fold")
    for title in ("what", "events", "shifted by"):
        table.add_column(title)
    for one in found:
        kind = "the same bytes" if one.kind == "bytes" else "looks the same"
        what = f"{kind}, {'all of it' if one.whole else 'a part'}"
        shift = clock(one.offset_s) if abs(one.offset_s) >= 0.05 else ""
        cells = (names[one.uri], names[one.of_uri], what, f"{len(one.events):,}", shift)
        table.add_row(*(plain(cell) for cell in cells))
    out.print(table)
    if root:
        say(f"All are below {root}.")
    events = sum(len(one.events) for one in found)
    whole = sum(one.whole for one in found)
    said = f"{counted(events, 'event')}, {counted(whole, 'video')} as a whole"
    if applied:
        say(
            f"{said}: hidden, {counted(hidden, 'event')} now. `marc dedup --undo` shows them again."
        )
    else:
        say(f"{said}. Nothing was changed; --apply hides them.")
