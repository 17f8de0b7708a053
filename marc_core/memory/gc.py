"""What a memory no longer needs: one function, one policy, for the command line, deletions and
whatever else frees space.

    orphans     rows of videos that have no `videos` row,       only while nobody writes
                vectors of an encoder that never came to be
    compaction  small files joined, indexes built or extended   always
    versions    older than keep_versions_s                      always
    purge       files and indexes that still hold deleted rows are written anew, and every older
                version goes                                    on demand: it rewrites, and waits
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pyarrow.compute as pc

from marc_core.config import MemoryConfig
from marc_core.memory import embeddings, maintenance, publishing
from marc_core.memory.changes import IDS_OF_A_FILTER
from marc_core.memory.filters import is_in
from marc_core.memory.tables import Tables, delete_where, scan, with_retries

_FRAGMENT_BITS = 32
"""A row's id is its place: the file's number above these bits, the row within it below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcPolicy:
    """What is collected besides what always is.

    orphans: rows that a dead writer left; only while nobody writes. purge: the bytes of deleted
    rows, also from indexes and older versions.
    """

    orphans: bool = False
    purge: bool = False


def collect(tables: Tables, config: MemoryConfig, policy: GcPolicy) -> dict[str, int]:
    """Collect by the policy; return deleted orphans by table. Readers may go on meanwhile."""
    counts = remove_orphans(tables) if policy.orphans else {}
    maintenance.optimize(tables, config, purge=policy.purge)
    if policy.purge:
        _purge(tables, config)
    return counts


def remove_orphans(tables: Tables) -> dict[str, int]:
    """Delete what is derived of videos that have no `videos` row, and staged vectors; return the
    numbers by table."""
    for table in tables.all().values():
        table.checkout_latest()
    known = set(scan(tables.videos, ["video_id"])["video_id"].to_pylist())
    counts = {}
    for name in ("events", *publishing.DERIVED):
        table = tables.all()[name]
        found = pc.unique(scan(table, ["video_id"])["video_id"]).to_pylist()
        counts[name] = _delete(table, sorted(set(found) - known))
    return counts | embeddings.drop_staged(tables)


def _delete(table: Any, video_ids: Sequence[str]) -> int:
    parts = range(0, len(video_ids), IDS_OF_A_FILTER)
    some = (video_ids[start : start + IDS_OF_A_FILTER] for start in parts)
    return sum(delete_where(table, is_in("video_id", ids)) for ids in some)


def _purge(tables: Tables, config: MemoryConfig) -> None:
    """Write anew what still holds deleted rows; then let every older version go.

    A reader looks for a newer version every second, and holds one for as long as a query takes:
    versions are removed when all of them have been old for a minute.
    """
    for name, table in tables.all().items():
        _rewrite_deleted(table)
        maintenance.rebuild_indexes(tables, name, config)
    time.sleep(maintenance.MIN_KEEP_S)
    for table in tables.all().values():
        keep = timedelta(seconds=maintenance.MIN_KEEP_S)
        with_retries(partial(table.optimize, cleanup_older_than=keep))
        table.checkout_latest()


def _rewrite_deleted(table: Any) -> None:
    """Write the rows of every file with deleted rows into a new file.

    Compaction leaves files of which less than a tenth is deleted. An update that changes nothing
    moves a file's rows in one commit, safe beside other writers.
    """
    table.checkout_latest()
    for fragment in _gappy_fragments(table):
        first, end = fragment << _FRAGMENT_BITS, (fragment + 1) << _FRAGMENT_BITS
        _touch(table, f"_rowid >= {first} AND _rowid < {end}")
    if maintenance.deleted_rows(table):  # at the end of a file, where they leave no gap
        _touch(table, "true")


def _touch(table: Any, condition: str) -> None:
    column = table.schema.names[0]
    with_retries(partial(table.update, where=condition, values_sql={column: column}))
    table.checkout_latest()


def _gappy_fragments(table: Any) -> list[int]:
    """Return the files in which rows are missing before the last one."""
    if not maintenance.deleted_rows(table):
        return []
    rows = table.search().with_row_id(True).select([table.schema.names[0]]).to_arrow()
    seen: dict[int, tuple[int, int]] = {}
    for row_id in rows["_rowid"].to_pylist():
        fragment, offset = row_id >> _FRAGMENT_BITS, row_id & ((1 << _FRAGMENT_BITS) - 1)
        count, last = seen.get(fragment, (0, -1))
        seen[fragment] = (count + 1, max(last, offset))
    return [fragment for fragment, (count, last) in seen.items() if count <= last]
