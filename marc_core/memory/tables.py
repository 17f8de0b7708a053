"""Opening, creating and checking the memory's LanceDB tables, and committing to them.

What a memory is (format, encoder, embedding dimension) stands in the schema metadata of its
`events` table, which is created last: a memory exists when its `events` table does.
"""

from __future__ import annotations

import json
import random
import shlex
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lancedb
import pyarrow as pa
from lancedb.index import FTS

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError, MissingMemoryError

FORMAT_VERSION = 2
_META_KEY = b"marc"
_COMMIT_ATTEMPTS = 8
_FIRST_PAUSE_S = 0.05

RUNS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False, metadata=schemas.PRIMARY_KEY),
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("config_yaml", pa.string(), nullable=False),
    ]
)
"""One row an indexing run: the resolved configuration, from which questions take their models."""

NAMES = ("videos", "events", "texts", "features", "runs")
"""The tables of a memory."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Meta:
    """What all rows of one memory have in common."""

    format_version: int
    embedding_dim: int
    encoder_fingerprint: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """The open tables of one memory."""

    videos: Any
    events: Any
    texts: Any
    features: Any
    runs: Any
    meta: Meta
    db: Any

    def all(self) -> dict[str, Any]:
        """Return the tables by name."""
        return {name: getattr(self, name) for name in NAMES}

    def complete_columns(self) -> None:
        """Add the columns of schemas.ADDED that an older version did not know, with nulls.

        Changes schemas only, no data. What another writer added meanwhile is found there.
        """
        for name in schemas.ADDED:
            with_retries(partial(_add_missing, getattr(self, name)))

    @contextmanager
    def same_encoder(self) -> Iterator[None]:
        """`check_bound` before the block and after it: what it computed with vectors is worth
        nothing where they were exchanged meanwhile."""
        self.check_bound()
        try:
            yield
        finally:
            self.check_bound()

    def check_bound(self) -> None:
        """Raise MemoryStoreError where the vectors became another encoder's since the memory was
        opened."""
        now = meta_of(self.events)
        if now != self.meta:
            assert now is not None
            raise MemoryStoreError(
                f"The memory at '{self.db.uri}' holds vectors of {_encoder(now)} since a moment "
                f"ago; here it is open for those of {_encoder(self.meta)}. Open it again, with "
                "that encoder."
            )


def open_tables(
    config: MemoryConfig,
    *,
    embedding_dim: int | None = None,
    encoder_fingerprint: str | None = None,
    create: bool = False,
    cache_bytes: int | None = None,
) -> Tables:
    """Open the memory at `config.uri`, or create it there when it is missing and may be.

    Raises MemoryStoreError when it is missing, unreachable, of another format, or holds
    embeddings of another dimension or encoder than asked for.
    """
    missing = MissingMemoryError(
        f"There is no memory at '{config.uri}'. Run `marc index` first, or name another place "
        "(--memory, setting memory.uri)."
    )
    if not create and "://" not in config.uri and not Path(config.uri).is_dir():
        raise missing
    try:
        db = lancedb.connect(
            config.uri,
            storage_options=dict(config.storage_options),
            read_consistency_interval=timedelta(seconds=config.refresh_s),
            session=None if cache_bytes is None else lancedb.Session(cache_bytes, cache_bytes),
        )
        if create and not exists(db, "events"):
            _create(db, embedding_dim, encoder_fingerprint)
        if not exists(db, "events"):
            raise missing
        meta = _read_meta(db, config.uri)
        opened = {name: db.open_table(name) for name in NAMES}
    except (OSError, RuntimeError, ValueError) as error:
        raise MemoryStoreError(
            f"The memory at '{config.uri}' cannot be opened: {_reason(error)}. Check "
            "memory.uri, memory.storage_options and the credentials."
        ) from error
    check_encoder(meta, config.uri, embedding_dim, encoder_fingerprint)
    return Tables(**opened, meta=meta, db=db)


def _reason(error: Exception) -> str:
    """Return the first line, without the place in LanceDB's own source that follows it."""
    return str(error).splitlines()[0].split(", location: Location")[0]


def exists(db: Any, name: str) -> bool:
    """Return whether the database has this table."""
    try:
        db.open_table(name)
    except ValueError as error:
        if "was not found" in str(error):
            return False
        raise
    return True


def _create(db: Any, embedding_dim: int | None, encoder_fingerprint: str | None) -> None:
    if embedding_dim is None:
        raise MemoryStoreError("A new memory needs embedding_dim, the encoder's dimension.")
    meta = Meta(
        format_version=FORMAT_VERSION,
        embedding_dim=embedding_dim,
        encoder_fingerprint=encoder_fingerprint,
    )
    events = with_meta(schemas.events_schema(embedding_dim), meta)
    plain = {"videos": schemas.VIDEOS, "texts": schemas.TEXTS, "features": schemas.FEATURES}
    for name, schema in {**plain, "runs": RUNS, "events": events}.items():
        _create_table(db, name, schema)


def _create_table(db: Any, name: str, schema: pa.Schema) -> None:
    """Create a table unless another writer did so a moment ago.

    `events` gets its full-text index at once: without one, text cannot be searched at all; with
    one, rows that it does not cover yet are scanned.
    """
    table = with_retries(lambda: db.create_table(name, schema=schema, exist_ok=True))
    if name == "events" and not list(table.list_indices()):
        with_retries(lambda: table.create_index("text", config=text_index()))


def text_index() -> FTS:
    """Return the full-text index: with positions, so that phrases can be searched."""
    return FTS(with_position=True)


def ensure_texts_index(table: Any) -> None:
    """Give `texts` its full-text index, by which words are found within one kind of text.

    Made when the first text is written; a memory without one holds texts of sidecars only.
    """
    if not has_text_index(table):
        with_retries(
            lambda: has_text_index(table) or table.create_index("text", config=text_index())
        )


def has_text_index(table: Any) -> bool:
    """Return whether words can be searched in the table's column `text`."""
    return any(index.columns == ["text"] for index in table.list_indices())


def with_meta(events: pa.Schema, meta: Meta) -> pa.Schema:
    """Return the schema of `events` of a memory that is what `meta` says."""
    return events.with_metadata({_META_KEY: json.dumps(asdict(meta)).encode()})


def meta_of(events: Any) -> Meta | None:
    """Return what an open `events` table says of its memory; None for a table of others.

    Takes 0.3 ms: an open table keeps its schema until it looks for a newer version.
    """
    raw = (events.schema.metadata or {}).get(_META_KEY)
    if raw is None:
        return None
    values = json.loads(raw)
    return Meta(**{field.name: values.get(field.name) for field in fields(Meta)})


def _read_meta(db: Any, uri: str) -> Meta:
    meta = meta_of(db.open_table("events"))
    if meta is None:
        raise MemoryStoreError(f"The tables at '{uri}' are not a MARC memory. Choose another uri.")
    if meta.format_version != FORMAT_VERSION:
        raise MemoryStoreError(
            f"The memory at '{uri}' has format {meta.format_version}; this version reads "
            f"format {FORMAT_VERSION}. Index its videos into a new memory: "
            f"{_index_command(db, uri)}"
        )
    return meta


def _index_command(db: Any, uri: str) -> str:
    """Return the command that indexes anew what the last run into this memory indexed."""
    runs = scan(db.open_table("runs"), ["started_at", "config_yaml"]).sort_by("started_at")
    archive: list[str] = []
    if runs.num_rows:
        from omegaconf import OmegaConf

        archive = list(OmegaConf.create(runs["config_yaml"][-1].as_py()).get("archive") or [])
    named = shlex.join(archive) if archive else "ARCHIVE"
    return f"marc index {named} --memory {shlex.quote(f'{uri}-format-{FORMAT_VERSION}')}"


def check_encoder(meta: Meta, uri: str, dim: int | None, fingerprint: str | None) -> None:
    """Raise MemoryStoreError where these are of another encoder than the memory's; None: not
    known."""
    other = dim not in (None, meta.embedding_dim)
    known = meta.encoder_fingerprint
    if other or (None not in (fingerprint, known) and fingerprint != known):
        given = Meta(
            format_version=FORMAT_VERSION,
            embedding_dim=dim or meta.embedding_dim,
            encoder_fingerprint=fingerprint,
        )
        raise MemoryStoreError(
            f"The memory at '{uri}' holds vectors of {_encoder(meta)}; this is {_encoder(given)}. "
            "Vectors of two encoders cannot be compared: use the one it was indexed with, or make "
            "all of its vectors anew with this one: marc index --only embeddings --memory "
            f"{shlex.quote(uri)} encoder.model=..."
        )


def _encoder(meta: Meta) -> str:
    name = f"encoder {meta.encoder_fingerprint}" if meta.encoder_fingerprint else "an encoder"
    return f"{name} of {meta.embedding_dim} dimensions"


def with_retries(commit: Callable[[], T]) -> T:
    """Return `commit()`, repeated while other writers win the race for the next version.

    LanceDB itself retries; this is for the conflicts it gives up on. Every commit here may be
    repeated. Raises MemoryStoreError after the last attempt (about 13 s of pauses, our choice).
    """
    system_random = random.SystemRandom()
    for attempt in range(_COMMIT_ATTEMPTS):
        try:
            return commit()
        except (OSError, RuntimeError, ValueError) as error:
            if not _is_conflict(error):
                raise
            if attempt == _COMMIT_ATTEMPTS - 1:
                raise MemoryStoreError(
                    f"Other writers won {_COMMIT_ATTEMPTS} times in a row: "
                    f"{str(error).splitlines()[0]}. Run again; nothing written is lost."
                ) from error
        time.sleep(_FIRST_PAUSE_S * 2**attempt * system_random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def _is_conflict(error: Exception) -> bool:
    text = str(error).lower()
    return "conflict" in text or "concurrent writ" in text or "already exists" in text


def merge(
    table: Any,
    key: str,
    rows: pa.Table,
    *,
    replace_where: str | None = None,
    insert: bool = True,
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Upsert `rows` by `key` in one commit; with `replace_where`, the same commit deletes the
    rows that fit it and are not in `rows`; without `insert`, only rows that are there change.
    Each attempt is made within `guard()`."""
    if not rows.num_rows:
        return

    def commit() -> None:
        builder = table.merge_insert(key).when_matched_update_all()
        if insert:
            builder = builder.when_not_matched_insert_all()
        if replace_where is not None:
            builder = builder.when_not_matched_by_source_delete(replace_where)
        with guard():
            builder.execute(rows)

    with_retries(commit)


_WHOLE: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()


def column_names(table: Any) -> list[str]:
    """Return the names of an open table's columns, kept once there are all that there may be."""
    names = _WHOLE.get(table)
    if names is None:
        names = list(table.schema.names)
        if all(field.name in names for field in schemas.ADDED.get(table.name, ())):
            _WHOLE[table] = names
    return names


def missing_columns(table: Any) -> list[pa.Field]:
    """Return the columns of schemas.ADDED that this open table lacks."""
    there = column_names(table)
    return [field for field in schemas.ADDED.get(table.name, ()) if field.name not in there]


def _add_missing(table: Any) -> None:
    if not missing_columns(table):
        return
    table.checkout_latest()
    missing = missing_columns(table)
    if missing:
        table.add_columns(missing)


def delete_where(table: Any, condition: str) -> int:
    """Delete rows in one commit, or make no commit when there are none; return their number."""
    if not table.count_rows(condition):
        return 0
    return int(with_retries(lambda: table.delete(condition)).num_deleted_rows)


def scan(table: Any, columns: Sequence[str], condition: str | None = None) -> pa.Table:
    """Return all rows that fit the condition.

    Columns of schemas.ADDED that an older memory lacks are null (a condition cannot name them).
    """
    added = {field.name: field for field in schemas.ADDED.get(table.name, ())}
    absent: set[str] = set()
    if not added.keys().isdisjoint(columns):
        absent = {field.name for field in missing_columns(table)}.intersection(columns)
    there = [name for name in columns if name not in absent]
    query = table.search().select(there or column_names(table)[:1])
    if condition is not None:
        query = query.where(condition)
    rows = query.to_arrow()
    for name in sorted(absent):
        rows = rows.append_column(added[name], pa.nulls(rows.num_rows, added[name].type))
    return rows.select(list(columns)) if absent else rows
