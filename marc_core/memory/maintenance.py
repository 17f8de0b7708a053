"""Upkeep of the tables: compaction, indexes, old versions; and the report on their state."""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any, get_args

from lancedb.index import BTree, IvfFlat, IvfRq, LabelList

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.memory.retention import feature_bytes
from marc_core.memory.tables import Tables, scan, text_index, with_retries

SCALAR_INDEXES: dict[str, dict[str, Any]] = {
    "videos": {"video_id": BTree, "uri": BTree},
    "events": {
        "event_id": BTree,
        "video_id": BTree,
        "camera": BTree,
        "folder": BTree,
        "tags": LabelList,
        "recorded_from": BTree,
        "recorded_to": BTree,
        "text": text_index,
    },
    "texts": {"text_id": BTree, "event_id": BTree, "video_id": BTree, "text": text_index},
    "features": {"feature_id": BTree, "video_id": BTree},
}
"""Indexes by table and column; rows that are not indexed yet are found by scanning them."""

MIN_KEEP_S = 60.0
"""Versions younger than this are never removed: a reader may be in the middle of one."""
_PIECES = {"videos": (50, 2), "events": (50, 2), "features": (512, 8)}
"""Table -> (a, b): compaction is due from max(a, b * sqrt(commits)) files on (our choice).

Every commit adds a file, and takes about 0.5 ms longer for each that is there (measured on a local
disk), but compaction copies all bytes (of plain and blob columns alike): with the square root the
sum of both stays near its least. Features are large and looked up by key, so they wait longer."""
_REBUILD_GROWTH = 4
"""The vector index is trained anew when rows have grown this many times since (our choice)."""
_RQ_BITS = 4
"""Bits of a code. LanceDB's default of 1 loses questions that lie between the clusters of events:
recall@3 0.2 - 0.7 where 4 bits give 0.99 - 1.00 at the same latency (docs/memory.md)."""
_SAMPLE_RATE = 256
_SAMPLE_RATE_AFTER_DELETIONS = 32
"""Rows a partition on which the vector index is trained. LanceDB 0.40 takes time in proportion to
samples x rows as soon as a file has a few deleted rows: 43 s instead of 2 s for 400,000 rows.
Compaction goes first because it drops most deletions; what is left is met with fewer samples."""


def optimize(tables: Tables, config: MemoryConfig, *, purge: bool) -> None:
    """Compact, index and clean every table. Readers and writers may go on meanwhile."""
    keep = timedelta(seconds=max(config.keep_versions_s, MIN_KEEP_S))
    for name, table in tables.all().items():
        table.checkout_latest()
        compact = name != "features" or purge or _is_due(name, table)
        _ensure_scalar_indexes(table, SCALAR_INDEXES.get(name, {}), rebuild=not compact)
        if compact:
            with_retries(partial(table.optimize, cleanup_older_than=keep))
        if name == "events":
            _ensure_vector_index(table, tables.meta.embedding_dim, config.vector_index_rows)


def is_due(tables: Tables) -> bool:
    """Return whether the events lie in so many files that commits have become slow."""
    return _is_due("events", tables.events)


def _is_due(name: str, table: Any) -> bool:
    least, growth = _PIECES[name]
    pieces = int(table.stats()["fragment_stats"]["num_fragments"])
    return pieces >= max(least, growth * math.isqrt(table.version))


def _ensure_scalar_indexes(table: Any, wanted: dict[str, Any], *, rebuild: bool) -> None:
    """Create what is missing; with `rebuild`, also what does not cover all rows.

    (`Table.optimize` extends indexes, but only together with compaction.)
    """
    if not table.count_rows():
        return
    present = {i.columns[0]: i for i in table.list_indices()}
    for column, kind in wanted.items():
        if column not in present or (rebuild and present[column].num_unindexed_rows):
            with_retries(partial(table.create_index, column, config=kind()))


def _ensure_vector_index(table: Any, dim: int, threshold_rows: int) -> None:
    """Build the vector index, or build it anew, once the table is large enough for it.

    The rows that it was trained on are part of its name: LanceDB does not tell its partitions.
    """
    rows = table.count_rows()
    names = [i.name for i in table.list_indices() if i.columns == ["embedding"]]
    trained = max((int(n) for name in names for n in re.findall(r"_(\d+)$", name)), default=0)
    if rows < max(threshold_rows, _REBUILD_GROWTH * trained):
        return
    rate = _SAMPLE_RATE_AFTER_DELETIONS if deleted_rows(table) else _SAMPLE_RATE
    kind: Any = IvfRq(distance_type="cosine", num_bits=_RQ_BITS, sample_rate=rate)
    if dim % 8:  # IvfRq packs eight dimensions at a time
        kind = IvfFlat(distance_type="cosine", sample_rate=rate)
    name = f"embedding_{rows}"
    with_retries(partial(table.create_index, "embedding", config=kind, name=name))
    for old in names:
        with_retries(partial(table.drop_index, old))


def rebuild_indexes(tables: Tables, name: str, config: MemoryConfig) -> None:
    """Build every index of a table anew: the old ones hold values of deleted rows."""
    table = tables.all()[name]
    wanted = SCALAR_INDEXES.get(name, {})
    for index in list(table.list_indices()):
        (column,) = index.columns
        if column in wanted:
            with_retries(partial(table.create_index, column, config=wanted[column](), replace=True))
        else:
            with_retries(partial(table.drop_index, index.name))
    if name == "events":
        _ensure_vector_index(table, tables.meta.embedding_dim, config.vector_index_rows)


def deleted_rows(table: Any) -> int:
    """Return how many deleted rows the table's files still hold."""
    return int(table.list_versions()[-1]["metadata"].get("total_deletion_file_rows", 0))


def status(tables: Tables) -> dict[str, Any]:
    """Return the state of a memory as plain values, ready for JSON."""
    columns = ["status", "error_class", "duration_s", "num_events"]
    videos = scan(tables.videos, columns).to_pylist()
    visible = [v for v in videos if v["num_events"]]
    return {
        "videos": len(videos),
        **dict.fromkeys((schemas.INDEXED, schemas.FAILED, schemas.QUARANTINED), 0),
        **Counter(v["status"] for v in videos),
        "failures": dict(Counter(v["error_class"] for v in videos if v["error_class"])),
        "hours": sum(v["duration_s"] or 0.0 for v in visible) / 3600,
        "events": tables.events.count_rows(),
        "texts": tables.texts.count_rows(),
        "text_kinds": _text_kinds(tables.texts),
        "features": tables.features.count_rows(),
        "feature_bytes": sum(feature_bytes(tables.features).values()),
        "embedding_dim": tables.meta.embedding_dim,
        "encoder_fingerprint": tables.meta.encoder_fingerprint,
        "indexes": {n: _index_state(t) for n, t in tables.all().items() if t.list_indices()},
        "versions": {name: table.version for name, table in tables.all().items()},
    }


def _text_kinds(texts: Any) -> dict[str, int]:
    """Return how many texts there are of each kind that there is."""
    counts = {kind: texts.count_rows(f"kind = '{kind}'") for kind in get_args(schemas.TextKind)}
    return {kind: count for kind, count in counts.items() if count}


def _index_state(table: Any) -> dict[str, dict[str, Any]]:
    return {
        i.columns[0]: {
            "type": i.index_type,
            "indexed_rows": i.num_indexed_rows,
            "unindexed_rows": i.num_unindexed_rows,
        }
        for i in table.list_indices()
    }
