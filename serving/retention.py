"""What a deployment keeps, and for how long: one collection that takes a video away with all that
is of it: its rows (events, texts, features, pictures), its uploaded file, its copy for browsers.

    make_plan --> Plan (shown, logged) --> carry_out

`marc gc` does it once; the indexer does it every `retention.every_s`. A registered file is never
touched: only its rows go.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from marc_core.filenames import canonical, stream_of
from marc_core.memory.retention import Kept, kept_videos, to_go

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore
    from serving.config import ServeConfig
    from serving.uploads import Uploads

UNFINISHED_S = 3600.0
"""An upload that has not grown for so long has been given up by a gateway that died: a living one
takes it away itself after `limits.body_stall_s` (our choice)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaving:
    """What has to go, and why. video_id: None for an upload that the memory does not hold. file:
    the upload, None for what is not MARC's own."""

    video_id: str | None
    uri: str
    why: str
    size_bytes: int
    file: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One collection. unfinished: folders of uploads that were broken off."""

    leaving: list[Leaving]
    unfinished: list[Path]

    @property
    def video_ids(self) -> list[str]:
        """The videos whose rows go."""
        return [one.video_id for one in self.leaving if one.video_id is not None]


def make_plan(
    store: MemoryStore, uploads: Uploads | None, config: ServeConfig, now: dt.datetime
) -> Plan:
    """Return what has to go now. Nothing is changed."""
    unfinished = [] if uploads is None else list(_unfinished(uploads))
    leaving = _leaving(store, uploads, config, now) if config.retention.is_limited else []
    return Plan(leaving=leaving, unfinished=unfinished)


def _leaving(
    store: MemoryStore, uploads: Uploads | None, config: ServeConfig, now: dt.datetime
) -> list[Leaving]:
    limits = config.retention
    store.refresh()
    videos, uri_of = kept_videos(store.tables)
    busy = set() if uploads is None else uploads.busy()
    files = [] if uploads is None else [f for f in _files(uploads) if f.key not in busy]
    old = to_go(videos, now, keep_days=limits.memory_days, keep_bytes=limits.memory_bytes)
    old_files = to_go(files, now, keep_days=limits.uploads_days, keep_bytes=limits.uploads_bytes)
    size_of = {one.key: one.size_bytes for one in (*videos, *files)}
    leaving: list[Leaving] = []
    held: set[str] = set()
    for video_id, uri in uri_of.items():
        path = _file_of(uri)
        held.add(path)
        why = old.get(video_id) or old_files.get(path)
        if why and path not in busy:
            is_own = path in size_of
            leaving.append(
                Leaving(
                    video_id=video_id, uri=uri, why=why, file=path if is_own else None,
                    size_bytes=size_of[video_id] + (size_of[path] if is_own else 0),
                )
            )  # fmt: skip
    leaving += [
        Leaving(video_id=None, uri=path, why=why, file=path, size_bytes=size_of[path])
        for path, why in old_files.items()
        if path not in held
    ]
    return leaving


def carry_out(
    plan: Plan, store: MemoryStore, uploads: Uploads | None, config: ServeConfig
) -> dict[str, int]:
    """Take away what the plan names; return deleted rows by table, and `files`. The bytes of rows
    leave the disk with a purge."""
    counts = store.delete_videos(plan.video_ids)
    counts["files"] = 0
    if uploads is not None:
        for path in {one.file for one in plan.leaving if one.file is not None}:
            counts["files"] += uploads.delete_file(path)
        for folder in plan.unfinished:
            shutil.rmtree(folder, ignore_errors=True)
            counts["files"] += 1
    if config.media.cache_folder:
        for video_id in plan.video_ids:
            Path(config.media.cache_folder, f"{video_id}.video").unlink(missing_ok=True)
    return counts


def _files(uploads: Uploads) -> Iterator[Kept]:
    """Yield the uploaded files."""
    for path in uploads.finished():
        try:
            state = path.stat()
        except FileNotFoundError:  # deleted a moment ago
            continue
        since = dt.datetime.fromtimestamp(state.st_mtime, dt.UTC)
        yield Kept(key=str(path), since=since, size_bytes=state.st_size)


def _file_of(uri: str) -> str:
    stream = stream_of(uri)
    return canonical(uri.removesuffix(f"#{stream}") if stream else uri)


def _unfinished(uploads: Uploads) -> Iterator[Path]:
    """Yield the folders in which nothing was finished and nothing comes any more."""
    for folder in uploads.files.iterdir():
        try:
            inside = list(folder.iterdir())
            newest = max(p.stat().st_mtime for p in (folder, *inside))
        except (FileNotFoundError, NotADirectoryError):
            continue
        is_old = newest < time.time() - UNFINISHED_S
        if is_old and all(p.name.startswith(".") for p in inside):
            yield folder
