"""A whole memory as Parquet files, and back: every row of every table, nothing computed anew.

    memory --dump--> folder: one Parquet file a table, then marc.json
    folder --load--> an equal memory; videos come last, so that nothing is seen before all is there

marc.json says what the memory is (format, encoder) and holds the rows and SHA-256 of each file. It
is written last: a folder without it is an export that was broken off.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from marc_core import schemas
from marc_core.digest import full_digest
from marc_core.errors import MemoryStoreError, MissingMemoryError
from marc_core.memory.gaps import GAPS
from marc_core.memory.gaps import NAME as GAPS_NAME
from marc_core.memory.parts import NAME as PARTS_NAME
from marc_core.memory.rows import conform
from marc_core.memory.store import MemoryStore
from marc_core.memory.tables import (
    FORMAT_VERSION,
    NAMES,
    RUNS,
    Meta,
    Tables,
    exists,
    merge,
    open_tables,
    with_retries,
)
from marc_core.times import counted

if TYPE_CHECKING:
    from marc_core.config import MemoryConfig

MANIFEST = "marc.json"
EXPORT_VERSION = 1
_LATER = {GAPS_NAME: (GAPS, "gap_id"), PARTS_NAME: (schemas.PARTS, "part_id")}
"""Tables that are there once a live source had a gap, or a long recording was met: schema, key."""
_ROWS = {"features": 64, "events": 512}
"""Rows read and written at a time, 4096 of other tables (our choice: some 30 MB)."""
Progress = Callable[[str, int, int], None]
"""Called with (table, rows done, rows in all)."""


def dump(
    config: MemoryConfig, folder: Path, progress: Progress = lambda *_: None
) -> dict[str, int]:
    """Write the memory to `folder`, which must be new or empty; return rows by table.

    All tables are read as they stood when it began, also while others write. Raises
    MemoryStoreError.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MemoryStoreError(
            f"'{folder}' is there already and not an empty folder. Name another."
        )
    tables = open_tables(config)
    opened = _all(tables)
    for table in opened.values():
        table.checkout(table.version)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, dict[str, Any]] = {}
    for name, table in opened.items():
        file = folder / f"{name}.parquet"
        rows = _dump_table(name, table, file, partial(progress, name))
        written[name] = {"file": file.name, "rows": rows, "sha256": full_digest(file)}
    manifest = {
        "export_version": EXPORT_VERSION,
        "memory": dataclasses.asdict(tables.meta),
        "tables": written,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return {name: entry["rows"] for name, entry in written.items()}


def _all(tables: Tables) -> dict[str, Any]:
    """Return all tables by name."""
    later = {n: tables.db.open_table(n) for n in _LATER if exists(tables.db, n)}
    return tables.all() | later


def _dump_table(name: str, table: Any, file: Path, progress: Callable[[int, int], None]) -> int:
    done, total = 0, table.count_rows()
    schema = table.schema.remove_metadata()
    with ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in table.search().select(schema.names).to_batches(_ROWS.get(name, 4096)):
            writer.write_batch(batch.cast(schema))
            done += batch.num_rows
            progress(done, total)
    return done


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dump:
    """A folder that `dump` wrote, checked."""

    folder: Path
    meta: Meta
    rows: Mapping[str, int]

    def batches(self, name: str) -> Iterator[pa.Table]:
        """Yield a table's rows with the columns of this version."""
        schema = schema_of(name, self.meta.embedding_dim)
        with ParquetFile(self.folder / f"{name}.parquet") as file:
            for batch in file.iter_batches(_ROWS.get(name, 4096)):
                yield conform(_completed(name, pa.table(batch)), schema, name, key_of(name))


def open_dump(folder: Path) -> Dump:
    """Return a folder that `dump` wrote. Raises MemoryStoreError for anything that does not fit."""
    manifest = _read_manifest(folder)
    try:
        meta = Meta(**manifest["memory"])
        tables = {
            name: (int(t["rows"]), str(t["sha256"])) for name, t in manifest["tables"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MemoryStoreError(
            f"'{folder / MANIFEST}' is no manifest of an export: {error}."
        ) from error
    if meta.format_version != FORMAT_VERSION:
        raise MemoryStoreError(
            f"'{folder}' is an export of a memory of format {meta.format_version}; this version "
            f"reads format {FORMAT_VERSION}. Import it with the version that wrote it."
        )
    if set(tables) - set(_LATER) != set(NAMES):
        raise MemoryStoreError(
            f"'{folder}' must hold the tables {', '.join(NAMES)}. Got {', '.join(sorted(tables))}."
        )
    for name, (rows, digest) in tables.items():
        _check_table(folder / f"{name}.parquet", name, rows, digest, meta)
    return Dump(folder=folder, meta=meta, rows={name: rows for name, (rows, _) in tables.items()})


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise MemoryStoreError(
            f"'{folder}' has no {MANIFEST}, so it is no export of a memory, or one that was broken "
            "off. Write one with: marc export --format parquet --output FOLDER"
        ) from None
    except (OSError, ValueError) as error:
        raise MemoryStoreError(f"'{folder / MANIFEST}' cannot be read: {error}.") from error
    version = manifest.get("export_version") if isinstance(manifest, dict) else None
    if version != EXPORT_VERSION:
        raise MemoryStoreError(
            f"'{folder}' is an export of version {version}; this one reads {EXPORT_VERSION}."
        )
    return dict(manifest)


def _check_table(file: Path, name: str, rows: int, digest: str, meta: Meta) -> None:
    try:
        found = full_digest(file)
    except OSError as error:
        raise MemoryStoreError(f"'{file}' cannot be read: {error.strerror}.") from error
    if found != digest:
        raise MemoryStoreError(
            f"'{file}' is not the file that was exported: its SHA-256 is {found[:12]}..., "
            f"{MANIFEST} says {digest[:12]}.... Copy the export again."
        )
    try:
        with ParquetFile(file) as opened:
            there, held = opened.schema_arrow, opened.metadata.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise MemoryStoreError(f"'{file}' is no Parquet file: {error}.") from error
    schema = schema_of(name, meta.embedding_dim)
    added = {field.name for field in schemas.ADDED.get(name, ())}
    unknown = [n for n in there.names if n not in schema.names]
    missing = [n for n in schema.names if n not in there.names and n not in added]
    other = [
        n for n in there.names if n in schema.names and there.field(n).type != schema.field(n).type
    ]
    if unknown or missing or other:
        raise MemoryStoreError(
            f"'{file}' does not fit table '{name}' of this version. Missing columns: "
            f"{missing or 'none'}; unknown: {unknown or 'none'}; of another type: "
            f"{other or 'none'}. Import it with the version that wrote it."
        )
    if held != rows:
        raise MemoryStoreError(f"'{file}' holds {counted(held, 'row')}, {MANIFEST} says {rows:,}.")


def load(dump: Dump, config: MemoryConfig, progress: Progress = lambda *_: None) -> dict[str, int]:
    """Make the memory at `config.uri` equal to the dump; return rows by table.

    There must be no memory there yet, or what an import of the same dump left that was broken off.
    Raises MemoryStoreError.
    """
    check_target(dump, config)
    store = MemoryStore.open(
        config,
        embedding_dim=dump.meta.embedding_dim,
        encoder_fingerprint=dump.meta.encoder_fingerprint,
        create=True,
    )
    store.tables.complete_columns()
    for name, (schema, _) in _LATER.items():
        if name in dump.rows:
            with_retries(partial(store.tables.db.create_table, name, schema=schema, exist_ok=True))
    for name in (*(n for n in dump.rows if n != "videos"), "videos"):
        _load_table(store, name, dump, partial(progress, name))
    store.optimize()
    store.refresh()
    counts = {name: int(table.count_rows()) for name, table in _all(store.tables).items()}
    if counts != dict(dump.rows):
        raise MemoryStoreError(
            f"The memory at '{config.uri}' has {counts} rows now, the export {dict(dump.rows)}: "
            "somebody else has written to it. Import into another place."
        )
    return counts


def check_target(dump: Dump, config: MemoryConfig) -> None:
    """Raise MemoryStoreError where the memory that is there already has videos, or another
    encoder's vectors."""
    try:
        store = MemoryStore.open(config)
    except MissingMemoryError:
        return
    if videos := store.tables.videos.count_rows():
        raise MemoryStoreError(
            f"The memory at '{config.uri}' holds {counted(videos, 'video')}. An export is imported "
            "into a place of its own: name another with --memory."
        )
    if store.meta != dump.meta:
        raise MemoryStoreError(
            f"The empty memory at '{config.uri}' is of {store.meta}, the export of {dump.meta}. "
            "Name another place with --memory."
        )


def _load_table(
    store: MemoryStore, name: str, dump: Dump, progress: Callable[[int, int], None]
) -> None:
    """Add a table's rows; merge them where a broken-off import has left some."""
    table, done = _all(store.tables)[name], 0
    again = table.count_rows() > 0
    for rows in dump.batches(name):
        if again:
            merge(table, key_of(name), rows)
        else:
            with_retries(partial(table.add, rows))
        done += rows.num_rows
        progress(done, dump.rows[name])
        if done % _UPKEEP_ROWS < rows.num_rows:
            store.optimize_if_due()


_UPKEEP_ROWS = 65_536
"""Rows after which small files may be joined (our choice)."""


def schema_of(name: str, embedding_dim: int) -> pa.Schema:
    """Return the schema of a table of this version."""
    known = {"videos": schemas.VIDEOS, "texts": schemas.TEXTS, "features": schemas.FEATURES}
    later = {table: schema for table, (schema, _) in _LATER.items()}
    events = schemas.events_schema(embedding_dim)
    return {**known, **later, "runs": RUNS, "events": events}[name]


def key_of(name: str) -> str:
    """Return a table's primary key."""
    later = {table: key for table, (_, key) in _LATER.items()}
    return {"videos": "video_id", "events": "event_id", "texts": "text_id",
            "features": "feature_id", "runs": "run_id", **later}[name]  # fmt: skip


def _completed(name: str, rows: pa.Table) -> pa.Table:
    """Return the rows with nulls for columns that came after they were written."""
    for field in schemas.ADDED.get(name, ()):
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows
