"""Why no event passes a filter, in one sentence: what the memory lacks, and what it has instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, get_args

import pyarrow.compute as pc

from marc_core.filenames import canonical, is_below
from marc_core.memory.filters import filter_to_sql, is_in
from marc_core.memory.tables import scan
from marc_core.question import EventFilter
from marc_core.schemas import TextKind
from marc_core.times import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from marc_core.memory.store import MemoryStore

_NAMED = 5
"""Names of what there is instead (our choice: a line's worth)."""


def why_nothing(store: MemoryStore, filter: EventFilter) -> str:
    """Return one sentence or two for people: the first condition that no video of the memory meets
    by itself, with a few of the values that exist; else that the conditions do not meet."""
    columns = ["video_id", "folder", "camera", "tags", "recorded_at"]
    videos = scan(store.tables.videos, columns, "num_events > 0")
    if not videos.num_rows:
        return "The memory holds no events yet: `marc index` fills it."
    if filter == EventFilter():
        there = counted(store.tables.events.count_rows(), "event")
        return f"The memory has {there}, none of them here."
    return (
        _unknown_video(videos, filter)
        or _unknown_folder(videos, filter)
        or _unknown_camera(videos, filter)
        or _unknown_tags(videos, filter)
        or _unknown_kinds(store, filter)
        or _no_clock(videos, filter)
        or _hidden(store, filter)
        or _not_together(filter)
    )


def _unknown_video(videos: pa.Table, filter: EventFilter) -> str:
    if filter.video_ids is None:
        return ""
    if not filter.video_ids:
        return "The filter names no video at all, so no event passes it."
    known = set(videos["video_id"].to_pylist())
    unknown = [video for video in filter.video_ids if video not in known]
    return f"No indexed video has the id {_quoted(unknown)}." if unknown else ""


def _unknown_folder(videos: pa.Table, filter: EventFilter) -> str:
    folders = pc.unique(videos["folder"]).to_pylist()
    place = None if filter.folder is None else canonical(filter.folder)
    if place is None or any(is_below(canonical(folder), place) for folder in folders):
        return ""
    return f"Nothing in the memory lies in folder '{filter.folder}'. {_known('Folders', folders)}"


def _unknown_camera(videos: pa.Table, filter: EventFilter) -> str:
    cameras = pc.unique(videos["camera"].drop_null()).to_pylist()
    if filter.camera is None or filter.camera in cameras:
        return ""
    return f"Nothing in the memory has camera '{filter.camera}'. {_known('Cameras', cameras)}"


def _unknown_tags(videos: pa.Table, filter: EventFilter) -> str:
    tags = pc.unique(pc.list_flatten(videos["tags"]).drop_null()).to_pylist()
    unknown = [tag for tag in filter.tags if tag not in tags]
    if not unknown:
        return ""
    return f"Nothing in the memory has tag {_quoted(unknown)}. {_known('Tags', tags)}"


def _unknown_kinds(store: MemoryStore, filter: EventFilter) -> str:
    texts = store.tables.texts
    if not filter.kinds or texts.count_rows(is_in("kind", filter.kinds)):
        return ""
    there = [kind for kind in get_args(TextKind) if texts.count_rows(is_in("kind", [kind]))]
    named = ", ".join(filter.kinds)
    return f"Nothing in the memory has text of kind {named}. {_known('Kinds', there)}"


def _no_clock(videos: pa.Table, filter: EventFilter) -> str:
    if filter.recorded_from is None and filter.recorded_to is None:
        return ""
    range_ = pc.min_max(videos["recorded_at"]).as_py()
    if range_["min"] is None:
        return (
            "No video says when it was recorded, so none passes a filter by time: files beside the "
            "videos may say so (recorded_at)."
        )
    return (
        f"No event passes the filters. The memory's videos were begun between "
        f"{range_['min']:%Y-%m-%dT%H:%M:%SZ} and {range_['max']:%Y-%m-%dT%H:%M:%SZ}."
    )


def _hidden(store: MemoryStore, filter: EventFilter) -> str:
    names = store.tables.events.schema.names
    hidden = store.tables.events.count_rows(filter_to_sql(filter, names))
    if not hidden or store.tables.events.count_rows(store.condition(filter)):
        return ""
    return (
        f"Hidden, because others show the same: {counted(hidden, 'event')} that would pass. `marc "
        "dedup --undo` shows what is hidden."
    )


def _not_together(filter: EventFilter) -> str:
    given = [
        f.name for f in dataclasses.fields(filter) if getattr(filter, f.name) not in (None, ())
    ]
    if len(given) > 1:
        return "No event passes all of the filters together. Leave one out."
    return "No event passes the filter. Widen it."


def _known(kind: str, names: Sequence[str]) -> str:
    if not names:
        return f"{kind}: none."
    named = sorted(names)[:_NAMED]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{kind}: {', '.join(named)}{more}."


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
