"""Events that are hidden because another event shows the same: not found, not lost.

hide      duplicate_of = the event that is kept; a video whose events are all hidden names a
          video, too
show      takes it back
release   shows again what was hidden in favour of videos that are deleted or cut anew
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from marc_core.memory.filters import is_in
from marc_core.memory.tables import Tables, merge, missing_columns, scan, with_retries

SHOWN = "duplicate_of IS NULL"
"""Condition on rows of `events` and `videos` that are not hidden."""
HIDDEN = "duplicate_of IS NOT NULL"
_AT_ONCE = 1000


def hide(tables: Tables, events: Mapping[str, str], videos: Mapping[str, str]) -> int:
    """Hide these events (event_id -> the one that is kept) and videos; return changed events.

    Repeating it changes nothing. An event that is gone meanwhile is passed over.
    """
    before = count_hidden(tables)
    for table, key, named in (
        (tables.events, "event_id", events), (tables.videos, "video_id", videos),
    ):  # fmt: skip
        keys = sorted(named)
        for start in range(0, len(keys), _AT_ONCE):
            rows = _in_full(table, key, {k: named[k] for k in keys[start : start + _AT_ONCE]})
            merge(table, key, rows, insert=False, guard=tables.same_encoder)
    return count_hidden(tables) - before


def _in_full(table: Any, key: str, named: Mapping[str, str]) -> pa.Table:
    """Return the whole rows with their new `duplicate_of`; those that are gone are left out."""
    names = table.schema.names
    found = scan(table, names, is_in(key, named))
    values = pa.array([named[one] for one in found[key].to_pylist()], pa.string())
    place = names.index("duplicate_of")
    return found.set_column(place, table.schema.field(place), values)


def show(tables: Tables, video_ids: Sequence[str] | None = None) -> int:
    """Show hidden events again, of these videos or all; return their number."""
    before = count_hidden(tables)
    condition = HIDDEN if video_ids is None else f"{HIDDEN} AND {is_in('video_id', video_ids)}"
    if before:
        for table in (tables.videos, tables.events):
            _clear(table, condition)
    return before - count_hidden(tables)


def release(tables: Tables, video_ids: Iterable[str]) -> int:
    """Show again what is hidden in favour of events of these videos; return their number."""
    if not count_hidden(tables):
        return 0
    gone = set(video_ids)
    hidden = scan(tables.events, ["event_id", "duplicate_of"], HIDDEN).to_pydict()
    ours = [
        event_id
        for event_id, kept in zip(hidden["event_id"], hidden["duplicate_of"], strict=True)
        if kept.split(":", 1)[0] in gone
    ]
    owners = sorted({event_id.split(":", 1)[0] for event_id in ours})
    for start in range(0, len(owners), _AT_ONCE):
        _clear(tables.videos, f"{HIDDEN} AND {is_in('video_id', owners[start : start + _AT_ONCE])}")
    for start in range(0, len(ours), _AT_ONCE):
        _clear(tables.events, is_in("event_id", ours[start : start + _AT_ONCE]))
    return len(ours)


def rename(tables: Tables, old_id: str, new_id: str) -> None:
    """Let what is hidden in favour of a video's events name them by the video's new id."""
    if not count_hidden(tables):
        return
    hidden = scan(tables.events, ["event_id", "duplicate_of"], HIDDEN).to_pydict()
    events = {
        event_id: new_id + kept.removeprefix(old_id)
        for event_id, kept in zip(*hidden.values(), strict=True)
        if kept.startswith(f"{old_id}:")
    }
    videos = scan(tables.videos, ["video_id"], is_in("duplicate_of", [old_id]))["video_id"]
    hide(tables, events, dict.fromkeys(videos.to_pylist(), new_id))


def count_hidden(tables: Tables) -> int:
    """Return how many events are hidden; none in a memory that does not know the column yet."""
    if missing_columns(tables.events):
        return 0
    return int(tables.events.count_rows(HIDDEN))


def _clear(table: Any, condition: str) -> None:
    if table.count_rows(condition):
        with_retries(partial(table.update, where=condition, values_sql={"duplicate_of": "NULL"}))
