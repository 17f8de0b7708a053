"""What text stages make of videos that are indexed: their texts replaced, kind by kind.

    texts merged, stale ones of these kinds deleted ──> events.text, text_kinds ──> videos: which
                                                        (of events that changed)    stage was here

In this order, so that after a crash the stage's old fingerprint says that it is to be done again.
Texts of other kinds, cuts, embeddings and features stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.memory import publishing
from marc_core.memory.filters import is_in, quote
from marc_core.memory.rows import conform
from marc_core.memory.tables import Tables, ensure_texts_index, merge, scan
from marc_core.text_rows import joined_texts, with_kinds

OUTCOMES = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        ("fingerprint", pa.string()),
        ("warnings", pa.list_(pa.string())),
        pa.field("indexed_at", schemas.VIDEOS.field("indexed_at").type, nullable=False),
    ]
)
"""How a stage ended on a video. fingerprint: the stage's; null where it is to be tried again, and
the video keeps the texts that it has. warnings: what went wrong. indexed_at: of the `videos` row
that the stage looked at."""
COLUMN_OF = {
    "speech": "speech_fingerprint",
    "writing": "writing_fingerprint",
    "caption": "captions_fingerprint",
}
"""The column of `videos` that says which stage of a kind was here last."""
_EVENTS_AT_ONCE = 1000
"""Events read in one condition (as long as it may be)."""
_ROUNDS = 3
"""Times that `events.text` is compared with `texts`, where other writers change texts, too."""


def warning(kind: str, message: str) -> str:
    """Return a warning of a stage as `videos.warnings` holds it."""
    return f"{kind}: {' '.join(message.split())}"


def publish(tables: Tables, outcomes: pa.Table, texts: pa.Table) -> None:
    """Replace the texts of these videos and kinds. Idempotent. See the module's diagram."""
    texts = conform(texts, schemas.TEXTS, "texts", "text_id")
    rows = outcomes.cast(OUTCOMES).to_pylist()
    _check(rows, texts)
    ours = is_in("video_id", sorted({row["video_id"] for row in rows}))
    videos = scan(tables.videos, schemas.VIDEOS.names, f"{ours} AND num_events > 0").to_pylist()
    as_seen = {video["video_id"]: video["indexed_at"] for video in videos}
    rows = [row for row in rows if as_seen.get(row["video_id"]) == row["indexed_at"]]
    _replace(tables, [row for row in rows if row["fingerprint"]], texts)
    _sync_events(tables, ours)
    merge(tables.videos, "video_id", _changed(videos, rows), insert=False)


def _replace(tables: Tables, done: Sequence[Mapping[str, Any]], texts: pa.Table) -> None:
    """Make these the texts of the videos and kinds that are done."""
    by_kind: dict[str, list[str]] = {}
    for row in done:
        by_kind.setdefault(row["kind"], []).append(row["video_id"])
    for kind, video_ids in by_kind.items():
        of_kind = pc.and_(
            pc.equal(texts["kind"], kind),
            pc.is_in(texts["video_id"], pa.array(video_ids, pa.string())),
        )
        own = texts.filter(of_kind)
        if own.num_rows:
            ensure_texts_index(tables.texts)
        merge(tables.texts, "text_id", own)
        condition = f"{is_in('video_id', video_ids)} AND kind = {quote(kind)}"
        publishing.delete_stale(tables.texts, "text_id", own, condition)


def _sync_events(tables: Tables, ours: str) -> None:
    """Make `events.text` and `text_kinds` of these videos what their texts give.

    Again until nothing differs: a writer that changed other texts meanwhile may have been faster.
    """
    for _ in range(_ROUNDS):
        texts = scan(tables.texts, schemas.TEXTS.names, ours)
        known = scan(tables.events, ["event_id", "text", "text_kinds"], ours)
        stale = _differing(known, texts)
        if not stale:
            return
        schema = schemas.events_schema(tables.meta.embedding_dim)
        pieces = [
            scan(tables.events, schema.names, is_in("event_id", stale[i : i + _EVENTS_AT_ONCE]))
            for i in range(0, len(stale), _EVENTS_AT_ONCE)
        ]
        events = _with_text(pa.concat_tables(pieces), texts)
        rows = conform(events, schema, "events", "event_id")
        merge(tables.events, "event_id", rows, insert=False, guard=tables.same_encoder)


def _with_text(events: pa.Table, texts: pa.Table) -> pa.Table:
    """Return the events with the text and kinds that these texts give them."""
    text_of = joined_texts(texts)
    column = [text_of.get(event_id) for event_id in events["event_id"].to_pylist()]
    place = events.schema.get_field_index("text")
    events = events.set_column(place, events.schema.field(place), pa.array(column, pa.string()))
    return with_kinds(events, texts)


def _differing(known: pa.Table, texts: pa.Table) -> list[str]:
    """Return the ids of events whose text or kinds are not what these texts give."""
    new = _with_text(known, texts)
    rows = zip(known.to_pylist(), new.to_pylist(), strict=True)
    return sorted(old["event_id"] for old, made in rows if old != made)


def _changed(videos: Iterable[dict[str, Any]], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return the `videos` rows with what the stages leave in them."""
    of_video: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        of_video.setdefault(row["video_id"], []).append(row)
    changed = []
    for video in videos:
        own = of_video.get(video["video_id"], [])
        for row in own:
            prefix = warning(row["kind"], "")
            kept = [w for w in video["warnings"] or () if not w.startswith(prefix)]
            video["warnings"] = [*kept, *(warning(row["kind"], w) for w in row["warnings"] or ())]
            if row["fingerprint"]:
                video[COLUMN_OF[row["kind"]]] = row["fingerprint"]
        if own:
            changed.append(video)
    return pa.Table.from_pylist(changed, schema=schemas.VIDEOS)


def _check(rows: Sequence[Mapping[str, Any]], texts: pa.Table) -> None:
    """Raise MemoryStoreError for a text of a video and kind without an outcome."""
    done = {(row["video_id"], row["kind"]) for row in rows if row["fingerprint"]}
    names = ("text_id", "event_id", "video_id", "kind")
    for key, event_id, video_id, kind in zip(*(texts[n].to_pylist() for n in names), strict=True):
        if (video_id, kind) not in done or not key.startswith(f"{event_id}:{kind}:"):
            raise MemoryStoreError(
                f"Text '{key}' must be of a video and kind that a stage has done. Got kind "
                f"'{kind}' of video '{video_id}'."
            )
    unknown = {row["kind"] for row in rows} - set(COLUMN_OF)
    if unknown:
        raise MemoryStoreError(f"A stage's kind must be one of {list(COLUMN_OF)}. Got {unknown}.")
