"""Events, texts and citations as plain rows. Times count from the video's own 0:00, in seconds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core.display import video_name
from marc_core.memory.filters import is_in
from marc_core.memory.tables import scan

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.evidence import Citation
    from marc_core.memory import MemoryStore
    from marc_core.question import EventFilter

Row = dict[str, Any]
_TEXT, _SECONDS = pa.string(), pa.float64()
_PLACE = (("event_id", _TEXT), ("video_id", _TEXT), ("name", _TEXT), ("uri", _TEXT),
          ("start_s", _SECONDS), ("end_s", _SECONDS))  # fmt: skip
_CLOCK = (("recorded_from", _TEXT), ("recorded_to", _TEXT))
EVENTS = pa.schema(
    [*_PLACE, *_CLOCK, ("camera", _TEXT), ("tags", pa.list_(_TEXT)), ("text", _TEXT)]
)
TEXTS = pa.schema(
    [("text_id", _TEXT), ("kind", _TEXT), *_PLACE, *_CLOCK, ("text", _TEXT),
     ("confidence", pa.float32()), ("language", _TEXT)]
)  # fmt: skip
CITATIONS = pa.schema(
    [("number", pa.int32()), *_PLACE, *_CLOCK, ("score", _SECONDS), ("cosine", _SECONDS),
     ("text", _TEXT), ("asked", _TEXT), ("answer", _TEXT)]
)  # fmt: skip
"""Columns of exported rows. Wall clocks are ISO 8601 in UTC, null where nobody knows them."""
_VIDEOS_AT_ONCE = 256
_EVENT = ["event_id", "video_id", "start_s", "end_s", "video_start_s", "recorded_from",
          "recorded_to", "camera", "tags", "text"]  # fmt: skip
_SAID = ["text_id", "event_id", "kind", "start_s", "end_s", "text", "confidence", "language"]


def event_rows(store: MemoryStore, filter: EventFilter) -> Iterator[Row]:
    """Yield the events that pass the filter and are not hidden, by address, then by time."""
    for uri, event in _events(store, filter):
        yield _placed(event, uri, event["start_s"], event["end_s"]) | {
            name: event[name] for name in ("camera", "tags", "text")
        }


def text_rows(store: MemoryStore, filter: EventFilter, kinds: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the texts of such events, each once, by address, then by time; of some kinds, or all.

    A text that is shown across a cut belongs to two events, and comes with the first.
    """
    seen: set[tuple[Any, ...]] = set()
    for group in _by_video(_events(store, filter)):
        by_id = {event["event_id"]: (uri, event) for uri, event in group}
        rows = scan(store.tables.texts, _SAID, is_in("event_id", by_id)).to_pylist()
        seen.clear()
        for text in sorted(rows, key=lambda row: (row["start_s"], row["end_s"], row["text_id"])):
            same = tuple(text[n] for n in ("kind", "start_s", "end_s", "text", "language"))
            if (kinds and text["kind"] not in kinds) or same in seen:
                continue
            seen.add(same)
            uri, event = by_id[text["event_id"]]
            row = _placed(event, uri, text["start_s"], text["end_s"])
            yield row | {name: text[name] for name in _SAID if name not in row}


def citation_rows(
    items: Iterable[SearchHit | Citation], *, asked: str, answer: str | None = None
) -> Iterator[Row]:
    """Yield what a search has found, or what an answer cites, in order."""
    for number, item in enumerate(items, start=1):
        yield {
            "number": number,
            "event_id": item.event_id,
            "video_id": item.video_id,
            "name": video_name(item.uri),
            "uri": item.uri,
            "start_s": item.start_s - item.video_start_s,
            "end_s": item.end_s - item.video_start_s,
            "recorded_from": _iso(item.recorded_from),
            "recorded_to": _iso(getattr(item, "recorded_to", None)),
            "score": item.score,
            "cosine": item.cosine,
            "text": getattr(item, "text", None),
            "asked": asked,
            "answer": answer,
        }


def _events(store: MemoryStore, filter: EventFilter) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (address, row of `events`), some videos' at a time in memory."""
    visible = scan(store.tables.videos, ["uri", "video_id"], "num_events > 0").to_pydict()
    order = sorted(zip(visible["uri"], visible["video_id"], strict=True))
    where = store.condition(filter)
    for start in range(0, len(order), _VIDEOS_AT_ONCE):
        some = {video_id: uri for uri, video_id in order[start : start + _VIDEOS_AT_ONCE]}
        condition = is_in("video_id", some)
        condition = condition if where is None else f"{condition} AND ({where})"
        rows = scan(store.tables.events, _EVENT, condition).to_pylist()
        for row in sorted(rows, key=lambda r: (some[r["video_id"]], r["start_s"], r["event_id"])):
            yield some[row["video_id"]], row


def _by_video(
    events: Iterable[tuple[str, Mapping[str, Any]]],
) -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    group: list[tuple[str, Mapping[str, Any]]] = []
    for uri, event in events:
        if group and group[0][1]["video_id"] != event["video_id"]:
            yield group
            group = []
        group.append((uri, event))
    if group:
        yield group


def _placed(event: Mapping[str, Any], uri: str, start_s: float, end_s: float) -> Row:
    """Return where and when a stretch of an event's video is."""
    zero_s = event["video_start_s"]
    clock = event["recorded_from"]
    begun = None if clock is None else clock - dt.timedelta(seconds=event["start_s"])
    return {
        "event_id": event["event_id"],
        "video_id": event["video_id"],
        "name": video_name(uri),
        "uri": uri,
        "start_s": start_s - zero_s,
        "end_s": end_s - zero_s,
        "recorded_from": _iso(None if begun is None else begun + dt.timedelta(seconds=start_s)),
        "recorded_to": _iso(None if begun is None else begun + dt.timedelta(seconds=end_s)),
    }


def _iso(moment: dt.datetime | str | None) -> str | None:
    if moment is None or isinstance(moment, str):
        return moment
    return moment.astimezone(dt.UTC).isoformat()
