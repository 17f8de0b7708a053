"""Gaps of live sources: from when until when nothing was recorded, and why.

A table of its own, made with its first row: memories of files alone have none. A gap that still
goes on has no end yet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from marc_core import schemas
from marc_core.memory.filters import is_in, moment_literal, quote
from marc_core.memory.tables import Tables, delete_where, exists, merge, scan, with_retries

NAME = "gaps"
_TIME = pa.timestamp("us", tz="UTC")
GAPS = pa.schema(
    [
        pa.field("gap_id", pa.string(), nullable=False, metadata=schemas.PRIMARY_KEY),
        pa.field("source", pa.string(), nullable=False),
        pa.field("from_time", _TIME, nullable=False),
        ("to_time", _TIME),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""One row a gap, by the source's own clock. to_time: null while it goes on; before from_time where
the clock was put back."""


class Gap(NamedTuple):
    """A gap of a source. until: None while it goes on; equal to `since` where there was none."""

    source: str
    since: dt.datetime
    until: dt.datetime | None
    reason: str


def record(tables: Tables, gaps: Iterable[Gap]) -> None:
    """Write gaps; what is known of the same source from the same moment on is replaced."""
    rows = {f"{gap.source}@{gap.since.isoformat()}": gap for gap in gaps}
    none = [key for key, gap in rows.items() if gap.until == gap.since]
    there = {key: gap for key, gap in rows.items() if key not in none}
    if none and exists(tables.db, NAME):
        delete_where(tables.db.open_table(NAME), is_in("gap_id", none))
    if there:
        values = [{"gap_id": key, **_columns(gap)} for key, gap in there.items()]
        table = with_retries(lambda: tables.db.create_table(NAME, schema=GAPS, exist_ok=True))
        merge(table, "gap_id", pa.Table.from_pylist(values, schema=GAPS))


def _columns(gap: Gap) -> dict[str, Any]:
    source, since, until, reason = gap
    return {"source": source, "from_time": since, "to_time": until, "reason": reason[:500]}


def listed(tables: Tables) -> list[Gap]:
    """Return all gaps in order of time."""
    if not exists(tables.db, NAME):
        return []
    rows = scan(tables.db.open_table(NAME), GAPS.names).sort_by("from_time").to_pylist()
    return [Gap(r["source"], r["from_time"], r["to_time"], r["reason"]) for r in rows]


def forget_before(tables: Tables, source: str, moment: dt.datetime) -> int:
    """Delete a source's gaps that ended before a moment; return their number."""
    if not exists(tables.db, NAME):
        return 0
    old = f"source = {quote(source)} AND to_time < {moment_literal(moment)}"
    return delete_where(tables.db.open_table(NAME), old)
