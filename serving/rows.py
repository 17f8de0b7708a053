"""Rows of the memory as the API shows them: videos and events, each only as far as a key sees.

A key's bound is an EventFilter of videos, camera, tags and folder. `videos` and `events` name these
columns alike, so one condition holds for both.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marc_core import schemas
from marc_core.display import video_name
from marc_core.memory.filters import filter_to_sql, is_in, quote
from marc_core.memory.tables import scan
from marc_core.question import EventFilter
from serving.ports import Row, VideoQuery

if TYPE_CHECKING:
    from marc_core.archive import SearchHit, TextLine
    from marc_core.memory import MemoryStore

_OF_HIT = (
    "event_id", "video_id", "start_s", "end_s", "video_start_s", "recorded_from", "recorded_to",
    "text", "camera", "tags",
)  # fmt: skip
_EVENT = (*_OF_HIT, "boundary_kind")
_TEXT = ("kind", "start_s", "end_s", "text", "language")
_SHOWN = (
    "video_id", "uri", "status", "duration_s", "width", "height", "fps", "codec", "size_bytes",
    "camera", "recorded_source",
)  # fmt: skip


def event_rows(hits: Sequence[SearchHit]) -> list[Row]:
    """Return found events as plain values."""
    return [
        _event({name: getattr(hit, name) for name in _OF_HIT}, hit.uri)
        | {"score": hit.score, "cosine": hit.cosine if hit.encoder_knows else None}
        | {"matches": [_match(line, hit.video_start_s) for line in hit.matches]}
        for hit in hits
    ]


def _match(line: TextLine, video_start_s: float) -> Row:
    """Return a line that a search has found, on the video's own clock."""
    times = {name: round(getattr(line, name) - video_start_s, 3) for name in ("start_s", "end_s")}
    return {"kind": line.kind, "text": line.text, "words": list(line.words), **times}


class Listing:
    """The videos and events of a memory, one by one and in pages."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def event(self, event_id: str, bound: EventFilter) -> Row | None:
        """Return a visible event inside the bound, with its texts; else None."""
        own = self._event_row(event_id, bound, _EVENT)
        if own is None:
            return None
        uri = self.store.visible_uris([own["video_id"]])[own["video_id"]]
        texts = self.store.texts_of([event_id]).to_pylist()
        shift_s = own["video_start_s"]
        shown = [
            {name: text[name] for name in _TEXT}
            | {"start_s": text["start_s"] - shift_s, "end_s": text["end_s"] - shift_s}
            for text in texts
        ]
        return _event(own, uri) | {"boundary_kind": own["boundary_kind"], "texts": shown}

    def thumbnail(self, event_id: str, bound: EventFilter) -> bytes | None:
        """Return the picture of a visible event inside the bound, else None."""
        own = self._event_row(event_id, bound, ("video_id", "thumbnail"))
        return None if own is None else own["thumbnail"] or None

    def videos(self, query: VideoQuery) -> tuple[list[Row], int]:
        """Return a page of the videos that fit, by address, and how many fit."""
        table = scan(self.store.tables.videos, ["video_id", "uri"], _videos_that_fit(query))
        found = sorted(zip(table["uri"].to_pylist(), table["video_id"].to_pylist(), strict=True))
        if query.name is not None:
            part = query.name.casefold()
            found = [item for item in found if part in video_name(item[0]).casefold()]
        page = [video_id for _, video_id in found[query.offset :][: query.limit]]
        rows = scan(self.store.tables.videos, schemas.VIDEOS.names, is_in("video_id", page))
        by_id = {row["video_id"]: row for row in rows.to_pylist()}
        return [_video(by_id[key]) for key in page if key in by_id], len(found)

    def video(self, video_id: str, bound: EventFilter) -> Row | None:
        """Return a video inside the bound, else None."""
        condition = _both(f"video_id = {quote(video_id)}", bound)
        found = scan(self.store.tables.videos, schemas.VIDEOS.names, condition).to_pylist()
        return _video(found[0]) if found else None

    def source(self, video_id: str, bound: EventFilter) -> Row | None:
        """Return what names the file of a video inside the bound, else None."""
        condition = _both(f"video_id = {quote(video_id)}", bound)
        columns = ["video_id", "uri", "size_bytes", "version"]
        found = scan(self.store.tables.videos, columns, condition).to_pylist()
        return dict(found[0]) if found else None

    def facets(self, bound: EventFilter) -> Row:
        """Return what the videos inside the bound have of cameras, tags and folders."""
        columns = ["camera", "tags", "folder"]
        found = scan(self.store.tables.videos, columns, _both("num_events > 0", bound)).to_pydict()
        return {
            "cameras": sorted({camera for camera in found["camera"] if camera}),
            "tags": sorted({tag for tags in found["tags"] for tag in tags or ()}),
            "folders": sorted({folder for folder in found["folder"] if folder}),
            "num_videos": len(found["folder"]),
        }

    def _event_row(self, event_id: str, bound: EventFilter, columns: Sequence[str]) -> Row | None:
        condition = _both(f"event_id = {quote(event_id)}", bound)
        found = scan(self.store.tables.events, columns, condition).to_pylist()
        if not found or not self.store.visible_uris([found[0]["video_id"]]):
            return None
        return dict(found[0])


def _both(condition: str, bound: EventFilter) -> str:
    more = filter_to_sql(bound)
    return condition if more is None else f"({condition}) AND ({more})"


def _videos_that_fit(query: VideoQuery) -> str | None:
    """Return the condition on rows of `videos`, but for the part of the file name."""
    asked = EventFilter(
        camera=query.camera, tags=() if query.tag is None else (query.tag,), folder=query.folder
    )
    parts = [filter_to_sql(asked), filter_to_sql(query.bound)]
    if query.status is not None:
        parts.append(f"status = {quote(query.status)}")
    return " AND ".join(f"({part})" for part in parts if part) or None


def _event(row: dict[str, Any], uri: str) -> Row:
    start_s = row["video_start_s"]
    return {
        "event_id": row["event_id"],
        "video_id": row["video_id"],
        "name": video_name(uri),
        "uri": uri,
        "start_s": round(row["start_s"] - start_s, 3),
        "end_s": round(row["end_s"] - start_s, 3),
        "recorded_from": _moment(row.get("recorded_from")),
        "recorded_to": _moment(row.get("recorded_to")),
        "text": row.get("text"),
        "camera": row.get("camera"),
        "tags": list(row.get("tags") or ()),
    }


def _video(row: dict[str, Any]) -> Row:
    failed = row["status"] != schemas.INDEXED
    problem = {"kind": row["error_class"] or "internal", "message": row["error_message"] or ""}
    return {name: row[name] for name in _SHOWN} | {
        "name": video_name(row["uri"]),
        "error": problem if failed else None,
        "warnings": list(row["warnings"] or ()),
        "recorded_at": _moment(row["recorded_at"]),
        "tags": list(row["tags"] or ()),
        "num_events": row["num_events"] or 0,
        "indexed_at": _moment(row["indexed_at"]),
    }


def _moment(value: dt.datetime | None) -> str | None:
    return None if value is None else value.isoformat()
