"""Exported rows as lists and captions for players and editors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marc_core.errors import ConfigError
from marc_core.export.edl import Clip, edl, rate_of
from marc_core.export.webvtt import Cue, webvtt
from marc_core.memory.filters import is_in
from marc_core.memory.tables import scan

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

Row = dict[str, Any]


def write_edl(
    store: MemoryStore, rows: Sequence[Row], *, title: str, fps: float | None = None
) -> str:
    """Return rows of events or citations as an EDL, in their order.

    fps: frames a second of its timecodes; None takes the rate that all of its videos have. Raises
    ConfigError where they have several, or one that timecodes do not know.
    """
    if fps is None:
        fps = _common_rate(store, rows)
    clips = [
        Clip(
            name=row["name"],
            start_s=row["start_s"],
            end_s=row["end_s"],
            notes=(_shown("RECORDED", row["recorded_from"]), _shown("TEXT", row["text"])),
        )
        for row in rows
    ]
    return edl(clips, title=title, fps=fps)


def _shown(name: str, value: str | None) -> str:
    return "" if value is None else f"{name} {value}"


def _common_rate(store: MemoryStore, rows: Sequence[Row]) -> float:
    ids = {row["video_id"] for row in rows}
    found = scan(store.tables.videos, ["video_id", "fps"], is_in("video_id", sorted(ids)))
    known: set[float] = {fps for fps in found["fps"].to_pylist() if fps}
    rates = {rate_of(fps) for fps in known}
    if len(rates) == 1:
        return known.pop()
    listed = ", ".join(sorted(f"{fps:g}" for fps in known)) or "no known rate"
    raise ConfigError(
        f"An EDL counts all its times at one rate, and these videos have {listed}. Give one: "
        "--fps 25."
    )


def write_webvtt(rows: Sequence[Row]) -> dict[str, str]:
    """Return captions by the name of their file, one a video: clip.vtt, of equal names clip-2.vtt.

    Of texts each is a cue; of events and citations what is said in them, or else their number.
    """
    videos: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        videos[row["uri"]].append(row)
    files: dict[str, str] = {}
    for uri, own in videos.items():
        files[_free_name(own[0]["name"], files)] = webvtt(map(_cue, own), note=uri)
    return files


def _cue(row: Row) -> Cue:
    number = row["event_id"].rsplit(":", 1)[-1]
    words = row["text"] or f"event {int(number)}"
    return Cue(
        start_s=row["start_s"],
        end_s=row["end_s"],
        text=words,
        id=row.get("text_id", row["event_id"]),
    )


def _free_name(name: str, taken: dict[str, str]) -> str:
    stem = (name.rpartition(".")[0] or name).replace("/", "_")
    number = 1
    while (found := f"{stem}{'' if number == 1 else f'-{number}'}.vtt") in taken:
        number += 1
    return found
