"""Another encoder for a memory: vectors of all its events made anew, then exchanged in one commit.

    stage        vectors by event, in a table of their own named by their encoder; merged as they
                 come, so that a run that was killed goes on
    missing      visible events without a staged vector of the frames that they show now
    exchange     `events` written once more with the staged vectors, and bound to their encoder:
                 ONE commit. Readers see the old vectors or the new
    complete     fingerprints of videos, indexes; the staged vectors go

While vectors are staged, jobs of the present encoder may go on. What is open with the old one when
the vectors are exchanged is refused from then on (`Tables.same_encoder`), because vectors of two
encoders cannot be compared, even where their dimensions agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import BTree

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.digest import frames_digest
from marc_core.errors import MemoryStoreError
from marc_core.fingerprints import embeddings_name
from marc_core.memory import maintenance
from marc_core.memory.filters import is_in, quote
from marc_core.memory.rows import check_embeddings, conform
from marc_core.memory.tables import (
    Meta,
    Tables,
    exists,
    merge,
    meta_of,
    scan,
    with_meta,
    with_retries,
)

_PREFIX = "embeddings_"
_EVENTS_AT_ONCE = 1000
"""Events looked up together when vectors are exchanged (our choice: as long as a condition may
be); so many rows are held in memory."""
_UPKEEP_EVERY = 64
"""Commits between two compactions of staged vectors (our choice)."""
_ATTEMPTS = 8
"""Times that vectors are exchanged while others keep writing (our choice)."""


def stage(tables: Tables, rows: pa.Table) -> None:
    """Keep these vectors until they are exchanged; repeating it changes nothing.

    rows: of `schemas.embeddings_schema`, of one encoder. Raises MemoryStoreError for rows that
    break a rule, and where the memory's vectors are this encoder's already.
    """
    fingerprint, dim = _encoder_of(rows)
    if fingerprint == tables.meta.encoder_fingerprint:
        raise MemoryStoreError(
            f"The memory at '{tables.db.uri}' holds vectors of encoder {fingerprint} already."
        )
    rows = conform(rows, schemas.embeddings_schema(dim), "embeddings", "event_id")
    check_embeddings(rows, dim)
    staged = _open(tables, fingerprint, dim)
    merge(staged, "event_id", rows)
    if staged.version % _UPKEEP_EVERY == 0:
        _look_after(staged)


def _open(tables: Tables, fingerprint: str, dim: int) -> Any:
    """Return the open table of an encoder's staged vectors; make it where it is missing."""
    name, schema = _PREFIX + fingerprint, schemas.embeddings_schema(dim)
    return with_retries(lambda: tables.db.create_table(name, schema=schema, exist_ok=True))


def _encoder_of(rows: pa.Table) -> tuple[str, int]:
    names = rows["fingerprint"].unique().to_pylist()
    if len(names) != 1:
        raise MemoryStoreError(f"Embeddings must be staged under one encoder. Got {names}.")
    return names[0], rows.schema.field("embedding").type.list_size


def _look_after(staged: Any) -> None:
    """Compact staged vectors, and index their keys."""
    if not staged.count_rows():
        return
    if not staged.list_indices():
        with_retries(partial(staged.create_index, "event_id", config=BTree()))
    keep = timedelta(seconds=maintenance.MIN_KEEP_S)
    with_retries(partial(staged.optimize, cleanup_older_than=keep))


def staged(tables: Tables) -> dict[str, int]:
    """Return how many vectors are staged, by the fingerprint of their encoder."""
    names = [n for n in _table_names(tables.db) if n.startswith(_PREFIX)]
    return {n.removeprefix(_PREFIX): tables.db.open_table(n).count_rows() for n in names}


def drop_staged(tables: Tables) -> dict[str, int]:
    """Remove all staged vectors; return their numbers by table."""
    counts = {_PREFIX + fingerprint: rows for fingerprint, rows in staged(tables).items()}
    for name in counts:
        tables.db.drop_table(name, ignore_missing=True)
    return counts


def _table_names(db: Any) -> Iterator[str]:
    token = None
    while True:
        page = db.list_tables(page_token=token)
        yield from page.tables
        token = page.page_token
        if not token:
            return


def missing(tables: Tables, fingerprint: str) -> pa.Table:
    """Return (event_id, video_id) of the visible events that lack a staged vector of this encoder.

    A vector counts for the frames that it was made of: of a video that was cut again since, it
    does not.
    """
    return _missing(tables, tables.events, fingerprint)


def _missing(tables: Tables, events: Any, fingerprint: str) -> pa.Table:
    tables.videos.checkout_latest()
    visible = scan(tables.videos, ["video_id"], "num_events > 0")
    shown = pa.concat_tables(_frames_shown(events))
    ours = shown.filter(pc.is_in(shown["video_id"], visible["video_id"].combine_chunks()))
    if not exists(tables.db, _PREFIX + fingerprint):
        return ours.select(["event_id", "video_id"])
    keys = ["event_id", "frames_digest"]
    there = scan(tables.db.open_table(_PREFIX + fingerprint), keys)
    return ours.join(there, keys=keys, join_type="left anti").select(["event_id", "video_id"])


def _frames_shown(events: Any) -> Iterator[pa.Table]:
    """Yield (event_id, video_id, frames_digest) of all events."""
    schema = pa.schema([(n, pa.string()) for n in ("event_id", "video_id", "frames_digest")])
    yield schema.empty_table()
    query = events.search().select(["event_id", "video_id", "frame_times_s"])
    for batch in query.to_batches():
        columns = [batch["event_id"], batch["video_id"], _digests(batch["frame_times_s"])]
        yield pa.table(columns, schema=schema)


def _digests(frame_times_s: pa.ListArray) -> pa.Array:
    values = frame_times_s.values.to_numpy()
    starts, ends = frame_times_s.offsets[:-1].to_numpy(), frame_times_s.offsets[1:].to_numpy()
    return pa.array(
        [frames_digest(values[a:b]) for a, b in zip(starts, ends, strict=True)], pa.string()
    )


def exchange(tables: Tables, fingerprint: str, dim: int) -> bool:
    """Bind the memory to this encoder, with its staged vectors of so many dimensions; return False
    where some miss.

    Open the memory anew afterwards. What no reader may see and has no staged vector is left out.
    An overwriting commit asks for no one's leave: where another writer's commit came in between,
    the state that it made is put back and the exchange is tried again.
    """
    vectors = _open(tables, fingerprint, dim)
    _look_after(vectors)
    meta = dataclasses.replace(tables.meta, embedding_dim=dim, encoder_fingerprint=fingerprint)
    for _ in range(_ATTEMPTS):
        events = tables.db.open_table("events")
        version = events.version
        events.checkout(version)
        if _missing(tables, events, fingerprint).num_rows:
            return False
        _overwrite(tables.db, events, vectors, meta)
        if _first_of(tables.db, meta, version) == version + 1:
            return True
        tables.db.open_table("events").restore(_first_of(tables.db, meta, version) - 1)
    raise MemoryStoreError(
        f"Other writers kept changing the memory at '{tables.db.uri}' while its vectors were "
        "exchanged. Nothing has changed; run again when they have ended."
    )


def _overwrite(db: Any, events: Any, vectors: Any, meta: Meta) -> None:
    """Write `events` once more, in one commit."""
    schema = with_meta(events.schema, meta)
    place = schema.get_field_index("embedding")
    field = schema.field(place).with_type(vectors.schema.field("embedding").type)
    schema = schema.set(place, field)

    def commit() -> None:
        rows = _with_vectors(events, vectors, schema)
        reader = pa.RecordBatchReader.from_batches(schema, rows)
        db.create_table("events", data=reader, mode="overwrite")

    with_retries(commit)


def _with_vectors(events: Any, vectors: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `events` that have a staged vector of their frames, with it."""
    kept = [name for name in schema.names if name != "embedding"]
    for batch in events.search().select(kept).to_batches(_EVENTS_AT_ONCE):
        ours = is_in("event_id", batch["event_id"].to_pylist())
        found = scan(vectors, ["event_id", "frames_digest", "embedding"], ours).combine_chunks()
        at = pc.index_in(batch["event_id"], found["event_id"].combine_chunks())
        same = pc.equal(_digests(batch["frame_times_s"]), found["frames_digest"].take(at))
        columns = {name: batch[name] for name in kept}
        columns["embedding"] = found["embedding"].combine_chunks().take(at)
        rows = pa.table([columns[name] for name in schema.names], schema=schema)
        yield from rows.filter(pc.fill_null(same, False)).to_batches()


def _first_of(db: Any, meta: Meta, after: int) -> int:
    """Return the first version of `events` after this one that is bound as `meta` says."""
    events = db.open_table("events")
    for version in range(after + 1, events.version + 1):
        events.checkout(version)
        if meta_of(events) == meta:
            return version
    raise AssertionError("the commit that was just made is among the versions")


def complete(tables: Tables, config: MemoryConfig) -> None:
    """Finish an exchange: name the vectors in `videos`, build indexes, drop what was staged.

    Does nothing where nothing is left to do; so a run that was killed in the middle is completed
    by the next. A video whose events came from another job during the exchange keeps its old
    fingerprint: the next indexing run takes it up.
    """
    encoder = tables.meta.encoder_fingerprint
    if encoder is None or not exists(tables.db, _PREFIX + encoder):
        return
    for table in (tables.videos, tables.events):
        table.checkout_latest()
    made = embeddings_name(encoder)
    stale = f"embeddings_fingerprint != {quote(made)}"
    if torn := _torn(tables):
        stale += f" AND NOT {is_in('video_id', torn)}"
    if tables.videos.count_rows(stale):
        values = {"embeddings_fingerprint": made}
        with_retries(lambda: tables.videos.update(where=stale, values=values))
    maintenance.optimize(tables, config, purge=False)
    tables.db.drop_table(_PREFIX + encoder, ignore_missing=True)


def _torn(tables: Tables) -> list[str]:
    """Return the visible videos of which an event is not there."""
    wanted = scan(tables.videos, ["video_id", "num_events"], "num_events > 0")
    ids = scan(tables.events, ["video_id"])["video_id"]
    found = {row["values"]: row["counts"] for row in pc.value_counts(ids).to_pylist()}
    rows = zip(*wanted.to_pydict().values(), strict=True)
    return [video_id for video_id, count in rows if found.get(video_id, 0) != count]
