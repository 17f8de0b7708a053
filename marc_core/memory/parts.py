"""Recordings in parts: which there are, and how each ended.

    plan      rows of a video's parts; events of another cut go
    publish   one part: features and texts, then its events (one commit), then its row
    settle    the video's own row, from those of its parts

While parts are missing the video is `failed` with error class `parts_missing`; what is published of
it can be found. It is `indexed` when every part has ended, also where some failed: those are gaps,
said in its warnings. The table is made when the first long recording is met.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.errors import MemoryStoreError, PartBeyondEndError
from marc_core.memory import publishing
from marc_core.memory.filters import is_in, quote
from marc_core.memory.rows import check_embeddings, check_features, check_texts, conform
from marc_core.memory.stage_texts import COLUMN_OF
from marc_core.memory.tables import Tables, delete_where, exists, merge, scan, with_retries

NAME = "parts"
GAP = "Gap"
"""How the warning of a part that failed begins."""


def table_of(tables: Tables, *, create: bool = False) -> Any | None:
    """Return the open table; None where it is missing and may not be made."""
    if create:
        return with_retries(
            lambda: tables.db.create_table(NAME, schema=schemas.PARTS, exist_ok=True)
        )
    return tables.db.open_table(NAME) if exists(tables.db, NAME) else None


def rows_of(tables: Tables, condition: str | None = None) -> pa.Table:
    """Return the rows that fit, in order of videos and parts."""
    table = table_of(tables)
    if table is None:
        return schemas.PARTS.empty_table()
    return scan(table, schemas.PARTS.names, condition).sort_by("part_id")


def plan(tables: Tables, videos: pa.Table, parts: pa.Table) -> None:
    """Keep the rows of videos that are to be indexed in parts; parts: all of each.

    What was planned or made of them before goes, their events, too: those are of another cut. The
    videos' rows come last: a plan that was cut short is made again.
    """
    videos = conform(videos, schemas.VIDEOS, "videos", "video_id")
    parts = conform(parts, schemas.PARTS, "parts", "part_id")
    ids = videos["video_id"].to_pylist()
    ours = is_in("video_id", ids)
    table = table_of(tables, create=True)
    hidden = {"num_events": "0"}
    if tables.videos.count_rows(f"{ours} AND num_events > 0"):
        with_retries(lambda: tables.videos.update(where=ours, values_sql=hidden))
    publishing.delete_derived(tables, ids)
    merge(table, "part_id", parts, replace_where=ours)
    merge(tables.videos, "video_id", videos)


def publish(
    tables: Tables,
    part: pa.Table,
    events: pa.Table,
    features: pa.Table | None,
    texts: pa.Table | None,
) -> None:
    """Make a part, complete with all that is derived, the memory's state of it.

    part: its row, status `indexed`. Idempotent. Raises MemoryStoreError before anything is written
    where rows break a rule.
    """
    part = conform(part, schemas.PARTS, "parts", "part_id")
    dim = tables.meta.embedding_dim
    events = conform(events, schemas.events_schema(dim), "events", "event_id")
    features = schemas.FEATURES.empty_table() if features is None else features
    features = conform(features, schemas.FEATURES, "features", "feature_id")
    texts = schemas.TEXTS.empty_table() if texts is None else texts
    texts = conform(texts, schemas.TEXTS, "texts", "text_id")
    (row,) = part.to_pylist()
    _check(row, events, features, texts, dim)
    ours = f"video_id = {quote(row['video_id'])} AND part = {row['part']}"
    merge(tables.features, "feature_id", features)
    merge(tables.texts, "text_id", texts)
    merge(tables.events, "event_id", events, replace_where=ours, guard=tables.same_encoder)
    merge(table_of(tables, create=True), "part_id", part)
    _show(tables, row["video_id"])


def _check(
    row: dict[str, Any], events: pa.Table, features: pa.Table, texts: pa.Table, dim: int
) -> None:
    video_id, part, count = row["video_id"], row["part"], row["num_events"]
    wanted = [schemas.make_event_id(video_id, part, i) for i in range(count or 0)]
    if not count or events["event_id"].to_pylist() != wanted or row["status"] != schemas.INDEXED:
        raise MemoryStoreError(
            f"A part must be published as indexed, with its events in order. Part {part} of video "
            f"'{video_id}' has status '{row['status']}' and says {count} events; got "
            f"{events.num_rows}."
        )
    if not pc.all(pc.less(events["start_s"], events["end_s"])).as_py():
        raise MemoryStoreError("Events must start before they end (start_s < end_s).")
    check_embeddings(events, dim)
    check_features(events, features)
    check_texts(events, texts)


def _show(tables: Tables, video_id: str) -> None:
    """Let readers see what is published of a video."""
    ours = f"video_id = {quote(video_id)}"
    done = rows_of(tables, f"{ours} AND status = {quote(schemas.INDEXED)}")
    total = int(pc.sum(done["num_events"]).as_py() or 0)
    columns = {"num_events": f"CAST({total} AS INT)"}
    columns |= dict.fromkeys(COLUMN_OF.values(), "CAST(NULL AS STRING)")  # no stage saw this part
    with_retries(lambda: tables.videos.update(where=ours, values_sql=columns))


def record_failures(tables: Tables, parts: pa.Table) -> None:
    """Record that these parts could not be indexed (rows of schemas.PARTS)."""
    merge(
        table_of(tables, create=True), "part_id", conform(parts, schemas.PARTS, "parts", "part_id")
    )


def settle(tables: Tables, video_ids: Iterable[str]) -> None:
    """Write the own rows of these videos from those of their parts. Repeating it changes nothing.

    Parts that a recording turned out not to have go. Parts of which the frames at a common seam
    differ are said: one was decoded wrongly.
    """
    for video_id in sorted(set(video_ids)):
        ours = f"video_id = {quote(video_id)}"
        table = table_of(tables)
        if table is not None:
            delete_where(table, f"{ours} AND error_class = {quote(PartBeyondEndError.kind)}")
        parts = rows_of(tables, ours).to_pylist()
        found = scan(tables.videos, schemas.VIDEOS.names, ours).to_pylist()
        if not (parts and found):
            continue
        new = found[0] | settled(found[0], parts)
        rows = pa.Table.from_pylist([new], schema=schemas.VIDEOS)
        merge(tables.videos, "video_id", rows, insert=False)
        if new["status"] == schemas.INDEXED:
            publishing.delete_older_versions(tables, rows)


def settled(video: dict[str, Any], parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the columns of a video's row that its parts decide."""
    done = [p for p in parts if p["status"] == schemas.INDEXED]
    missing = [p for p in parts if p["status"] == schemas.PLANNED]
    failed = [p for p in parts if p["status"] not in (schemas.INDEXED, schemas.PLANNED)]
    said = [w for w in video["warnings"] or () if not w.startswith(GAP)]
    for part in done:
        said += [w for w in part["warnings"] or () if w not in said]
    said += [gap_sentence(p, len(parts)) for p in failed]
    said += [seam_sentence(a) for a, b in _neighbours(done) if a["tail"] != b["head"]]
    columns: dict[str, Any] = {
        "num_parts": len(parts),
        "duration_s": parts[-1]["to_s"],
        "num_events": sum(p["num_events"] for p in done),
        "num_frames": sum(p["num_frames"] for p in done),
        "num_decode_errors": sum(p["num_decode_errors"] for p in done),
        "warnings": said,
        "status": schemas.INDEXED,
        "error_class": None,
        "error_message": None,
        "indexed_at": dt.datetime.now(dt.UTC),
    }
    if missing:
        text = f"{len(missing)} of its {len(parts)} parts are missing. Rerun to go on."
        return columns | _failure(schemas.PARTS_MISSING, text)
    if not done:
        first = failed[0]
        return columns | _failure(first["error_class"], first["error_message"])
    return columns


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"status": schemas.FAILED, "error_class": kind, "error_message": message}


def _neighbours(done: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(a, b) for a, b in pairwise(done) if b["part"] == a["part"] + 1]


def gap_sentence(part: dict[str, Any], count: int) -> str:
    """Return what is said of a part that failed."""
    return (
        f"{GAP} from {clock_text(part['from_s'])} to {clock_text(part['to_s'])} (part "
        f"{part['part'] + 1} of {count}): {part['error_class']}, {part['error_message']}"
    )


def seam_sentence(before: dict[str, Any]) -> str:
    """Return what is said of a seam at which two parts saw different frames."""
    return (
        f"Seam at {clock_text(before['to_s'])}: the parts before and after it decoded different "
        "frames there; events beside it may overlap, or miss a moment."
    )


def clock_text(seconds: float) -> str:
    """Return h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def copy(tables: Tables, old_id: str, new_id: str) -> None:
    """Give a video the parts of another one of the same content, which may have none."""
    rows = [
        row | {"part_id": schemas.make_part_id(new_id, row["part"]), "video_id": new_id}
        for row in rows_of(tables, f"video_id = {quote(old_id)}").to_pylist()
    ]
    delete(tables, [new_id])
    if rows:
        table = table_of(tables, create=True)
        merge(table, "part_id", pa.Table.from_pylist(rows, schema=schemas.PARTS))


def delete(tables: Tables, video_ids: Sequence[str]) -> None:
    """Forget the parts of these videos."""
    table = table_of(tables)
    if table is not None:
        delete_where(table, is_in("video_id", video_ids))
