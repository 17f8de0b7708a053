"""What is said, written and shown in a video, as rows: texts of events, the one text by which an
event is found, and an event's wall clock."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core import schemas

if TYPE_CHECKING:
    from marc_core.text import Sidecar
    from marc_core.text.stage import Said, Span


def sidecar_rows(
    events: Iterable[tuple[str, float, float]], video_id: str, sidecar: Sidecar
) -> list[dict[str, Any]]:
    """Return a row for each caption of each event that it is shown in.

    events: (event_id, start_s, end_s), on the clock of the captions. A caption across a cut belongs
    to both events; its own start and end stay.
    """
    rows = []
    for event_id, start_s, end_s in events:
        shown = [c for c in sidecar.captions if c.start_s < end_s and c.end_s > start_s]
        for number, caption in enumerate(shown):
            rows.append(
                {
                    "text_id": schemas.make_text_id(event_id, "sidecar", number),
                    "event_id": event_id,
                    "video_id": video_id,
                    "kind": "sidecar",
                    "start_s": caption.start_s,
                    "end_s": caption.end_s,
                    "text": caption.text,
                    "language": caption.language,
                    "fingerprint": sidecar.fingerprint,
                }
            )
    return rows


def stage_rows(
    spans: Sequence[Span], video_id: str, kind: schemas.TextKind, lines: Iterable[Said], name: str
) -> list[dict[str, Any]]:
    """Return a row for each line of a stage and each event that it overlaps.

    A line across a cut belongs to both events; one in a gap between events, or after the last
    picture, to the event that is nearest. Its own start and end stay. name: the stage's
    fingerprint.
    """
    rows, numbers = [], dict.fromkeys((span.event_id for span in spans), 0)
    for line in sorted(lines, key=lambda line: (line.start_s, line.end_s, line.text)):
        for span in _events_of(line, spans):
            rows.append(
                {
                    "text_id": schemas.make_text_id(span.event_id, kind, numbers[span.event_id]),
                    "event_id": span.event_id,
                    "video_id": video_id,
                    "kind": kind,
                    "start_s": line.start_s,
                    "end_s": line.end_s,
                    "text": line.text,
                    "confidence": line.confidence,
                    "language": line.language,
                    "fingerprint": name,
                }
            )
            numbers[span.event_id] += 1
    return rows


def _events_of(line: Said, spans: Sequence[Span]) -> list[Span]:
    end_s = max(line.end_s, math.nextafter(line.start_s, math.inf))  # a moment is in its event
    shown = [span for span in spans if line.start_s < span.end_s and end_s > span.start_s]
    if shown or not spans:
        return shown
    return [min(spans, key=lambda s: max(s.start_s - end_s, line.start_s - s.end_s))]


def kinds_of(texts: pa.Table) -> dict[str, list[str]]:
    """Return `events.text_kinds` by event_id: the kinds of an event's texts, in order of name.

    Events without a text are absent.
    """
    found: dict[str, set[str]] = {}
    for event_id, kind in zip(*(texts[n].to_pylist() for n in ("event_id", "kind")), strict=True):
        found.setdefault(event_id, set()).add(kind)
    return {event_id: sorted(kinds) for event_id, kinds in found.items()}


def with_kinds(events: pa.Table, texts: pa.Table) -> pa.Table:
    """Return `events` with the `text_kinds` that these texts give them."""
    kinds = kinds_of(texts)
    place = events.schema.get_field_index("text_kinds")
    column = [kinds.get(event_id) for event_id in events["event_id"].to_pylist()]
    field = events.schema.field(place)
    return events.set_column(place, field, pa.array(column, field.type))


def joined_texts(texts: pa.Table) -> dict[str, str]:
    """Return `events.text` by event_id: an event's texts in order of their start, by one space.

    Events without a text are absent.
    """
    columns = ("event_id", "start_s", "text_id", "text")
    rows: Sequence[tuple[str, float, str, str]] = sorted(
        zip(*(texts[name].to_pylist() for name in columns), strict=True)
    )
    found: dict[str, list[str]] = {}
    for event_id, _, _, text in rows:
        found.setdefault(event_id, []).append(text)
    return {event_id: " ".join(parts) for event_id, parts in found.items()}


def recorded_columns(
    recorded_at: dt.datetime | None, video_start_s: float, start_s: float, end_s: float
) -> dict[str, dt.datetime | None]:
    """Return an event's own wall clock: when its video began, and the seconds from its 0:00."""
    names = ("recorded_from", "recorded_to")
    if recorded_at is None:
        return dict.fromkeys(names)
    seconds = (start_s - video_start_s, end_s - video_start_s)
    return {n: recorded_at + dt.timedelta(seconds=s) for n, s in zip(names, seconds, strict=True)}
