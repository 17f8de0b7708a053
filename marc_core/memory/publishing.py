"""Publishing videos: what is written in which order, so that readers see the old state or the new.

    look up ──> features, ──> events ──────────> videos ───────────> delete stale
    what is     texts         (ONE merge: all    (ONE merge: adds    (only what the
    there       (merges)      events of all      the new row and     look-up found)
                              videos, surplus    removes the old
                              ones deleted)      version's)

A video is visible while its `videos` row has num_events > 0, so the videos commit is the switch
from one content version of a uri to the next. A video that is there already and is now cut
otherwise loses features and texts before the events commit and gets the new ones after it: a reader
finds none for a moment, never those of another cut. A crash between two commits leaves rows that
the rerun overwrites, because every key is derived from source and position (docs/memory.md has the
table of crash windows).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.memory.filters import is_in
from marc_core.memory.rows import check_events, check_features, check_texts, conform
from marc_core.memory.tables import Tables, delete_where, ensure_texts_index, merge, scan
from marc_core.text_rows import with_kinds

DERIVED = {"features": "feature_id", "texts": "text_id"}
"""Tables that describe events, and their keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """Checked rows of whole videos, by table."""

    videos: pa.Table
    events: pa.Table
    features: pa.Table
    texts: pa.Table

    @property
    def video_ids(self) -> list[str]:
        """The videos that are published."""
        return list(self.videos["video_id"].to_pylist())


def checked(
    videos: pa.Table,
    events: pa.Table,
    features: pa.Table | None,
    texts: pa.Table | None,
    embedding_dim: int,
) -> Publication:
    """Return the rows as one publication. Raises MemoryStoreError when they break a rule."""
    videos = conform(videos, schemas.VIDEOS, "videos", "video_id")
    events = conform(events, schemas.events_schema(embedding_dim), "events", "event_id")
    check_events(videos, events, embedding_dim)
    features = schemas.FEATURES.empty_table() if features is None else features
    features = conform(features, schemas.FEATURES, "features", "feature_id")
    check_features(events, features)
    texts = schemas.TEXTS.empty_table() if texts is None else texts
    texts = conform(texts, schemas.TEXTS, "texts", "text_id")
    check_texts(events, texts)
    events = with_kinds(events, texts)
    uris = videos["uri"].to_pylist()
    if len(set(uris)) < len(uris):
        raise MemoryStoreError("One uri was published in two content versions at once.")
    return Publication(videos=videos, events=events, features=features, texts=texts)


def publish(tables: Tables, new: Publication) -> None:
    """Make the publication the memory's present state of its videos. See the module's diagram."""
    known = _look_up(tables, new)
    if new.texts.num_rows:
        ensure_texts_index(tables.texts)
    if known.recut:
        delete_derived(tables, sorted(known.recut), names=DERIVED)
    _merge_derived(tables, new, known.recut, late=False)
    guard = tables.same_encoder
    merge(tables.events, "event_id", new.events, replace_where=known.surplus, guard=guard)
    _merge_derived(tables, new, known.recut, late=True)
    replaced = is_in("video_id", known.old_ids) if known.old_ids else None
    merge(tables.videos, "video_id", new.videos, replace_where=replaced)
    for name, key in DERIVED.items():
        stale = known.derived[name] - set(getattr(new, name)[key].to_pylist())
        if stale:
            delete_where(tables.all()[name], is_in(key, sorted(stale)))
    if known.old_ids:
        delete_derived(tables, known.old_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What the memory holds of the videos before they are published.

    old_ids: other content versions of their uris. surplus: the condition that deletes events which
    the new cut lacks, None when there are none. recut: videos of which an event is there with
    another span, or is surplus. derived: keys of their features and texts.
    """

    old_ids: list[str]
    surplus: str | None
    recut: set[str]
    derived: dict[str, set[str]]


def _look_up(tables: Tables, new: Publication) -> _Known:
    """Look everything up at once: each look-up waits for the disk more than it computes."""
    ours = is_in("video_id", new.video_ids)
    with ThreadPoolExecutor(2 + len(DERIVED)) as pool:
        older = pool.submit(_older_versions, tables, new.videos)
        differences = pool.submit(_differences, tables, new.events, ours)
        derived = {
            name: pool.submit(scan, tables.all()[name], [key], ours)
            for name, key in DERIVED.items()
        }
    surplus, recut = differences.result()
    keys = {n: set(derived[n].result()[key].to_pylist()) for n, key in DERIVED.items()}
    return _Known(old_ids=older.result(), surplus=surplus, recut=recut, derived=keys)


def delete_derived(
    tables: Tables, video_ids: list[str], *, names: Iterable[str] = ("events", *DERIVED)
) -> dict[str, int]:
    """Delete the rows of these videos from these tables; return their numbers."""
    condition = is_in("video_id", video_ids)
    return {name: delete_where(tables.all()[name], condition) for name in names}


def delete_stale(table: Any, key: str, rows: pa.Table, condition: str) -> None:
    """Delete the rows that fit the condition and are not among `rows`."""
    known = scan(table, [key], condition)[key].to_pylist()
    stale = set(known) - set(rows[key].to_pylist())
    if stale:
        delete_where(table, is_in(key, sorted(stale)))


def _merge_derived(tables: Tables, new: Publication, recut: set[str], *, late: bool) -> None:
    """Write features and texts: of videos cut otherwise when `late`, of all others before."""
    videos = pa.array(sorted(recut), pa.string())
    for name, key in DERIVED.items():
        rows = getattr(new, name)
        is_late = pc.is_in(rows["video_id"], videos)
        merge(tables.all()[name], key, rows.filter(is_late if late else pc.invert(is_late)))


def delete_older_versions(tables: Tables, videos: pa.Table) -> None:
    """Delete other content versions of these videos' uris, and all that is derived of them."""
    old_ids = _older_versions(tables, videos)
    if old_ids:
        delete_where(tables.videos, is_in("video_id", old_ids))
        delete_derived(tables, old_ids)


def _older_versions(tables: Tables, videos: pa.Table) -> list[str]:
    """Return ids of other content versions of the same uris."""
    condition = is_in("uri", videos["uri"].to_pylist())
    known = scan(tables.videos, ["video_id"], condition)["video_id"].to_pylist()
    return sorted(set(known) - set(videos["video_id"].to_pylist()))


def _differences(tables: Tables, events: pa.Table, ours: str) -> tuple[str | None, set[str]]:
    """Return surplus and recut of `_Known`, by comparing with the events that are there."""
    columns = ["event_id", "start_s", "end_s", "video_id"]
    known = _tuples(scan(tables.events, columns, ours))
    new = {key: (start, end) for key, start, end, _ in _tuples(events.select(columns))}
    recut = {video for key, start, end, video in known if new.get(key) != (start, end)}
    return (ours if any(row[0] not in new for row in known) else None), recut


def _tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*table.to_pydict().values(), strict=True))
