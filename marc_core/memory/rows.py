"""Checks of rows before they are written: one clear error instead of a half-usable memory."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.text_rows import joined_texts


def conform(rows: pa.Table, schema: pa.Schema, name: str, key: str) -> pa.Table:
    """Return `rows` with exactly the columns, order and types of `schema`, in one piece.

    In one piece, because LanceDB writes piece by piece: 768 events that come as 256 pieces cost a
    merge 0.5 CPU seconds, in one piece 0.04. Raises MemoryStoreError for missing or unknown
    columns, values that do not fit their type, nulls where none may be, and keys that occur twice.
    """
    missing = [n for n in schema.names if n not in rows.column_names]
    unknown = [n for n in rows.column_names if n not in schema.names]
    if missing or unknown:
        raise MemoryStoreError(
            f"Rows for '{name}' must have the columns of marc_core.schemas. "
            f"Missing: {missing or 'none'}; unknown: {unknown or 'none'}."
        )
    rows = rows.combine_chunks()
    columns = [_cast(rows.column(field.name), field, name) for field in schema]
    keys = rows.column(key)
    if len(keys.unique()) < len(keys):
        raise MemoryStoreError(f"Rows for '{name}' hold one {key} twice; each may occur once.")
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field, name: str) -> pa.ChunkedArray:
    try:
        cast = column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise MemoryStoreError(
            f"Column '{name}.{field.name}' must be {field.type}. Got {column.type}: {error}."
        ) from error
    if not field.nullable and cast.null_count:
        raise MemoryStoreError(
            f"Column '{name}.{field.name}' must not be null. Got {cast.null_count} nulls."
        )
    return cast


def check_events(videos: pa.Table, events: pa.Table, embedding_dim: int) -> None:
    """Raise MemoryStoreError unless `events` are complete, dense and searchable.

    Every video is `indexed` and has `num_events` >= 1 events in parts 0 .. num_parts - 1, with
    index 0, 1, .. within each part, ids as make_event_id gives them, start before end, and an
    embedding that is finite and not zero.
    """
    _check_numbers(videos, events)
    for video_id, status, n in _columns(videos, "video_id", "status", "num_events"):
        if status != schemas.INDEXED or not n:
            raise MemoryStoreError(
                f"A published video must have status 'indexed' and at least one event. Video "
                f"{video_id} has status '{status}' and {n} events; use record_failures."
            )
    if not pc.all(pc.less(events["start_s"], events["end_s"]), min_count=0).as_py():
        raise MemoryStoreError("Events must start before they end (start_s < end_s).")
    check_embeddings(events, embedding_dim)


def _check_numbers(videos: pa.Table, events: pa.Table) -> None:
    """Raise MemoryStoreError unless the videos' events are complete and numbered densely."""
    found: dict[str, dict[int, set[int]]] = {}
    for key, video_id, part, index in _columns(events, "event_id", "video_id", "part", "index"):
        if key != schemas.make_event_id(video_id, part, index):
            raise MemoryStoreError(
                f"An event_id must be video_id:part:index. Got '{key}' for part {part}, index "
                f"{index} of video '{video_id}'. Make it with make_event_id()."
            )
        found.setdefault(video_id, {}).setdefault(part, set()).add(index)
    for video_id, num_events, num_parts in _columns(videos, "video_id", "num_events", "num_parts"):
        parts = found.pop(video_id, {})
        complete = parts.keys() <= set(range(num_parts or 0))  # a part that failed has none
        dense = all(index == set(range(len(index))) for index in parts.values())
        if not (complete and dense and sum(map(len, parts.values())) == (num_events or 0)):
            raise MemoryStoreError(
                "Events must be numbered 0, 1, .. within parts 0 .. num_parts - 1, num_events in "
                f"all. Video '{video_id}' has {num_events} events in {num_parts} parts; "
                f"got { ({part: sorted(index) for part, index in sorted(parts.items())}) }."
            )
    if found:
        raise MemoryStoreError(
            f"Events must be numbered within the videos published with them. Got events of "
            f"'{min(found)}' without its row."
        )


def check_embeddings(events: pa.Table, embedding_dim: int) -> None:
    """Raise MemoryStoreError unless every embedding is finite and not zero."""
    flat = events["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    embeddings_ED = flat.reshape(-1, embedding_dim)
    norms_E = np.linalg.norm(embeddings_ED, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms_E) | (norms_E == 0))
    if len(bad):
        raise MemoryStoreError(
            f"Embeddings must be finite and not zero (cosine). Event "
            f"{events['event_id'][int(bad[0])]} has norm {norms_E[bad[0]]}."
        )


def check_features(events: pa.Table, features: pa.Table) -> None:
    """Raise MemoryStoreError unless every features row belongs to one of `events`."""
    known = set(_columns(events, "event_id", "video_id"))
    for event_id, video_id, name, key in _columns(
        features, "event_id", "video_id", "fingerprint", "feature_id"
    ):
        if (event_id, video_id) not in known or key not in (
            schemas.make_feature_id(event_id, name, piece) for piece in (0, 1)
        ):
            raise MemoryStoreError(
                f"Features '{key}' do not belong to an event published with them (event "
                f"'{event_id}' of video '{video_id}'). Make rows with features_rows()."
            )


def check_texts(events: pa.Table, texts: pa.Table) -> None:
    """Raise MemoryStoreError unless every texts row belongs to one of `events`, of a known kind,
    and `events.text` is what `joined_texts` makes of them."""
    known = set(_columns(events, "event_id", "video_id"))
    kinds = get_args(schemas.TextKind)
    for event_id, video_id, kind, key in _columns(texts, "event_id", "video_id", "kind", "text_id"):
        if (event_id, video_id) not in known or not key.startswith(f"{event_id}:{kind}:"):
            raise MemoryStoreError(
                f"Text '{key}' does not belong to an event published with it (event '{event_id}' "
                f"of video '{video_id}'). Make its key with make_text_id()."
            )
        if kind not in kinds:
            raise MemoryStoreError(f"A text's kind must be one of {kinds}. Got '{kind}'.")
    joined = joined_texts(texts)
    for event_id, text in _columns(events, "event_id", "text"):
        if text != joined.get(event_id):
            raise MemoryStoreError(
                f"events.text must be what joined_texts() makes of the event's texts. Event "
                f"'{event_id}' has {text!r}; its texts give {joined.get(event_id)!r}."
            )


def _columns(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))
