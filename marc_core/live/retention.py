"""What MARC has recorded goes when it is too old or too much: media, events, texts and features
together. Files that MARC has not recorded are never touched.

A recording is renamed first, to `.gone-...`, and emptied, because a full disk has no room for the
commit; then its rows go, then the file. A crash in between leaves the renamed file, with which the
next collection goes on.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from marc_core.filenames import uri_of_path
from marc_core.live.config import WatchConfig
from marc_core.live.spool import ENDING, GONE
from marc_core.memory import gaps
from marc_core.memory.retention import Kept, kept_videos, to_go

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore


def collect(store: MemoryStore, config: WatchConfig, now: dt.datetime) -> dict[str, int]:
    """Take away what the limits of `config` do not keep; return deleted rows by table, and `files`.

    Recordings count with their features and vectors. `now`: with an offset.
    """
    for path in _expired(store, config, now):
        path.rename(path.with_name(f"{GONE}{path.name}"))
    gone = sorted(_sources(config, f"*/{GONE}*{ENDING}"))
    counts: dict[str, int] = {}
    for path in gone:
        os.truncate(path, 0)
    if gone:
        uris = {uri_of_path(str(path.with_name(path.name.removeprefix(GONE)))) for path in gone}
        rows = store.videos(columns=["video_id", "uri"]).to_pylist()
        counts = store.delete_videos([r["video_id"] for r in rows if r["uri"] in uris])
    for path in gone:
        path.with_name(path.name.removeprefix(GONE)).with_suffix(".json").unlink(missing_ok=True)
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    if config.keep_days:
        before = now - dt.timedelta(days=config.keep_days)
        counts["gaps"] = sum(
            gaps.forget_before(store.tables, folder.parent.name, before)
            for folder in _sources(config, ".state.json")
        )
    return counts | {"files": len(gone)}


def _expired(store: MemoryStore, config: WatchConfig, now: dt.datetime) -> list[Path]:
    if not config.keep_days and not config.keep_bytes:
        return []
    store.refresh()
    videos, uri_of = kept_videos(store.tables)
    derived = {uri_of[one.key]: one.size_bytes for one in videos}
    kept = []
    for path in _sources(config, f"*/[!.]*{ENDING}"):
        state = path.stat()
        kept.append(
            Kept(
                key=str(path),
                since=dt.datetime.fromtimestamp(state.st_mtime, dt.UTC),
                size_bytes=state.st_size + derived.get(uri_of_path(str(path)), 0),
            )
        )
    going = to_go(kept, now, keep_days=config.keep_days, keep_bytes=config.keep_bytes)
    return [Path(key) for key in going]


def _sources(config: WatchConfig, pattern: str) -> Iterator[Path]:
    """Yield files by a pattern below the folder of each source that a recorder has written."""
    for state in Path(config.folder).resolve().glob("*/.state.json"):
        yield from state.parent.glob(pattern)
