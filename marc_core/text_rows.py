"""What files beside a video make of its rows: texts of events, the one text by which an event is
found, and an event's wall clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core import schemas

if TYPE_CHECKING:
    from marc_core.text import Sidecar


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
