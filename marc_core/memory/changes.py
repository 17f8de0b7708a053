"""Changes of videos that are there already: what is said beside them, where they lie, what a
student reads of them; and their deletion. None decodes anything.

Each is several commits. Their order is such that after a crash readers see the old state or the
new, and repeating the call completes it (docs/memory.md has the table of crash windows).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.fingerprints import joined_name
from marc_core.memory import hiding, publishing
from marc_core.memory import parts as recordings
from marc_core.memory.filters import is_in
from marc_core.memory.rows import check_features, conform
from marc_core.memory.tables import (
    Tables,
    delete_where,
    ensure_texts_index,
    merge,
    scan,
    with_retries,
)
from marc_core.recorded.rows import ELSEWHERE
from marc_core.text_rows import joined_texts, kinds_of, recorded_columns
from marc_core.types import VideoSource

SAID = pa.schema(
    [schemas.VIDEOS.field(n) for n in ("video_id", "camera", "tags", "recorded_at",
                                       "recorded_source", "clock_fingerprint", "warnings",
                                       "texts_fingerprint", "synthetic")]
)  # fmt: skip
"""What files beside a video, and the settings of its clock, decide of its row."""
IDS_OF_A_FILTER = 1000
"""Ids named in one condition (our choice: longer ones take longer to parse than to answer)."""
_TIME_MARGIN_S = 1.0
"""Features' group times may lie this far outside of their event: times are float32, and a group's
centre may lie behind its last frame."""


def delete_videos(tables: Tables, video_ids: Sequence[str]) -> dict[str, int]:
    """Delete these videos and everything derived; return deleted rows by table.

    First they are hidden, and marked so that an indexing run would take them up again; their own
    rows go last, so that a call that was cut short can be repeated.
    """
    counts: dict[str, int] = {}
    for start in range(0, len(video_ids), IDS_OF_A_FILTER):
        ids = list(video_ids[start : start + IDS_OF_A_FILTER])
        ours = is_in("video_id", ids)
        if not tables.videos.count_rows(ours):
            continue
        hidden = {"num_events": "0", "cuts_fingerprint": "'deleted'"}
        with_retries(partial(tables.videos.update, where=ours, values_sql=hidden))
        hiding.release(tables, ids)
        deleted = publishing.delete_derived(tables, ids)
        recordings.delete(tables, ids)
        deleted["videos"] = delete_where(tables.videos, ours)
        counts = {name: counts.get(name, 0) + n for name, n in deleted.items()}
    return counts


def update_texts(
    tables: Tables, videos: pa.Table, texts: pa.Table, kinds: Sequence[schemas.TextKind]
) -> None:
    """Replace the texts of these kinds, and what files beside the videos decide of their rows.

    videos: SAID rows. texts: all TEXTS rows of these kinds, of any of the videos' events. Cuts,
    embeddings, features and texts of other kinds stay. Raises MemoryStoreError before anything is
    written for rows that break a rule, and for videos that are not visible.
    """
    videos = conform(videos, SAID, "videos", "video_id")
    texts = conform(texts, schemas.TEXTS, "texts", "text_id")
    said = {row["video_id"]: row for row in videos.to_pylist()}
    ours = is_in("video_id", list(said))
    rows = scan(tables.videos, schemas.VIDEOS.names, f"{ours} AND num_events > 0").to_pylist()
    events = scan(tables.events, tables.events.schema.names, ours)
    _check_said(said, rows, events, texts, kinds)
    of_kinds = f"{ours} AND {is_in('kind', kinds)}"
    if texts.num_rows:
        ensure_texts_index(tables.texts)
    merge(tables.texts, "text_id", texts)
    publishing.delete_stale(tables.texts, "text_id", texts, of_kinds)
    every = scan(tables.texts, schemas.TEXTS.names, ours)
    schema = schemas.events_schema(tables.meta.embedding_dim)
    changed = conform(_events_that_say(events, said, every), schema, "events", "event_id")
    merge(tables.events, "event_id", changed, insert=False, guard=tables.same_encoder)
    new_rows = [row | said[row["video_id"]] for row in rows]
    new = pa.Table.from_pylist(new_rows, schema=schemas.VIDEOS)
    merge(tables.videos, "video_id", new, insert=False)


def rename_videos(tables: Tables, moves: Mapping[str, VideoSource]) -> list[str]:
    """Give videos that lie elsewhere now their new address and id; return the new ids.

    moves: old video_id -> the file as it is listed now. Events, texts and features are copied under
    the new id, which becomes visible in one commit; then the old one is deleted. An old id that is
    not visible is left out, so repeating the call completes one that was cut short.
    """
    done = []
    for old_id, source in moves.items():
        if old_id != source.video_id and _place(tables, old_id, source):
            hiding.rename(tables, old_id, source.video_id)
            delete_videos(tables, [old_id])
            done.append(source.video_id)
    return done


def copy_videos(tables: Tables, copies: Mapping[VideoSource, str]) -> list[str]:
    """Give these files the rows of the video of the same content; return their ids.

    copies: file -> the video_id of its original, which stays. A file whose original is not visible
    is left out; repeating the call changes nothing.
    """
    return [s.video_id for s, original in copies.items() if _place(tables, original, s)]


def _place(tables: Tables, old_id: str, source: VideoSource) -> bool:
    """Publish the rows of a video under another address and id, parts of a recording, too; return
    False where it is not visible, or not as it was last indexed (then it is tried again itself).

    What files beside it and its name say is read again by the run: its fingerprint of a clock is
    of no settings.
    """
    ours = is_in("video_id", [old_id])
    complete = f"{ours} AND num_events > 0 AND status = '{schemas.INDEXED}'"
    found = scan(tables.videos, schemas.VIDEOS.names, complete).to_pylist()
    if not found:
        return False
    names = ("video_id", "uri", "size_bytes", "version")
    place = {"folder": schemas.folder_of(source.file_uri), "clock_fingerprint": ELSEWHERE}
    row = found[0] | {name: getattr(source, name) for name in names} | place
    row["indexed_at"] = dt.datetime.now(dt.UTC)
    derived = {
        name: _renamed(scan(table, table.schema.names, ours), old_id, source, name)
        for name, table in tables.all().items()
        if name in ("events", *publishing.DERIVED)
    }
    videos = pa.Table.from_pylist([row], schema=schemas.VIDEOS)
    new = publishing.checked(videos, embedding_dim=tables.meta.embedding_dim, **derived)
    recordings.copy(tables, old_id, source.video_id)
    publishing.publish(tables, new)
    return True


def publish_features(tables: Tables, features: pa.Table) -> None:
    """Replace the features of the videos whose events these rows describe; cuts stay as they are.

    features: FEATURES rows of the same fingerprints (see `fingerprints.features_names`), for every
    event of each of their videos. Raises MemoryStoreError before anything is written for rows that
    do not fit the events that are there.
    """
    features = conform(features, schemas.FEATURES, "features", "feature_id")
    names = features["fingerprint"].unique().to_pylist()
    ours = is_in("video_id", features["video_id"].unique().to_pylist())
    columns = ["event_id", "video_id", "start_s", "end_s"]
    events = scan(tables.events, columns, ours)
    check_features(events, features)
    _check_cut(events, features)
    merge(tables.features, "feature_id", features)
    publishing.delete_stale(tables.features, "feature_id", features, ours)
    value = {"features_fingerprint": joined_name(names)}
    with_retries(lambda: tables.videos.update(where=ours, values=value))


def _events_that_say(
    events: pa.Table, said: Mapping[str, Mapping[str, Any]], texts: pa.Table
) -> pa.Table:
    """Return the events with their new text, camera, tags and wall clock. texts: all of theirs."""
    text_of, kinds = joined_texts(texts), kinds_of(texts)
    names = ["event_id", "video_id", "video_start_s", "start_s", "end_s"]
    new: dict[str, list[Any]] = {}
    for row in events.select(names).to_pylist():
        video = said[row["video_id"]]
        clock = recorded_columns(
            video["recorded_at"], row["video_start_s"], row["start_s"], row["end_s"]
        )
        values = {
            "text": text_of.get(row["event_id"]),
            "text_kinds": kinds.get(row["event_id"]),
            **{name: video[name] for name in ("camera", "tags", "synthetic")},
        }
        for name, value in (values | clock).items():
            new.setdefault(name, []).append(value)
    for name, column in new.items():
        place = events.schema.get_field_index(name)
        field = events.schema.field(name)
        events = events.set_column(place, field, pa.array(column, field.type))
    return events


def _check_said(
    said: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    events: pa.Table,
    texts: pa.Table,
    kinds: Sequence[str],
) -> None:
    unknown = sorted(set(said) - {row["video_id"] for row in rows})
    if unknown:
        raise MemoryStoreError(
            f"Texts can be updated of videos that are indexed. The memory has no events of "
            f"{unknown}: index them."
        )
    known = set(zip(*(events[n].to_pylist() for n in ("event_id", "video_id")), strict=True))
    columns = ("event_id", "video_id", "kind", "text_id")
    for event_id, video_id, kind, key in zip(
        *(texts[name].to_pylist() for name in columns), strict=True
    ):
        named = key.startswith(f"{event_id}:{kind}:") and kind in kinds
        if (event_id, video_id) not in known or not named:
            raise MemoryStoreError(
                f"Text '{key}' must be of a kind among {list(kinds)} and of an event that the "
                f"memory holds. Got kind '{kind}', event '{event_id}'."
            )


def _check_cut(events: pa.Table, features: pa.Table) -> None:
    """Raise MemoryStoreError unless every event has features whose times lie in it."""
    spans = {row["event_id"]: (row["start_s"], row["end_s"]) for row in events.to_pylist()}
    kinds = [features[name].to_pylist() for name in ("fingerprint", "event_id")]
    wanted = {(name, event_id) for name in set(kinds[0]) for event_id in spans}
    missing = sorted(wanted - set(zip(*kinds, strict=True)))
    if missing:
        raise MemoryStoreError(
            f"Features must cover every event of their videos. Missing: {missing[0][1]} under "
            f"'{missing[0][0]}' and {len(missing) - 1} more."
        )
    for event_id, times in zip(
        features["event_id"].to_pylist(), features["times_s"].to_pylist(), strict=True
    ):
        start_s, end_s = spans[event_id]
        times_s = np.asarray(times)
        outside = (times_s < start_s - _TIME_MARGIN_S) | (times_s > end_s + _TIME_MARGIN_S)
        if outside.any():
            raise MemoryStoreError(
                f"Features must be of the present cut. Those of event '{event_id}' lie at "
                f"{times} s, the event at {start_s} - {end_s} s: it was cut again meanwhile."
            )


def _renamed(rows: pa.Table, old_id: str, source: VideoSource, name: str) -> pa.Table:
    """Return rows of a table with the new video's id in place of the old one's."""
    new = {"video_id": [source.video_id] * rows.num_rows}
    for key in ("event_id", "feature_id", "text_id"):
        if key in rows.schema.names:
            new[key] = [source.video_id + value[len(old_id) :] for value in rows[key].to_pylist()]
    if name == "events":
        new["folder"] = [schemas.folder_of(source.file_uri)] * rows.num_rows
    for column, values in new.items():
        place, field = rows.schema.get_field_index(column), rows.schema.field(column)
        rows = rows.set_column(place, field, pa.array(values, field.type))
    return rows
