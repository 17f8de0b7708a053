"""Rows travel between stages in parcels: a parcel is one row whose cells are lists.

Ray's driver pays milliseconds for every block that a stage hands on, however small it is. A video
that took seconds is a parcel of its own and goes on at once; quick ones (short clips, files that
are no videos) share one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

HOLD_S = 0.5
"""A parcel goes on once the work on its rows has taken so long (our choice): a video that took
longer goes at once, and the driver sees at most two parcels of quick ones a second and actor."""
HOLD_BYTES = 16 * 1024**2
"""A parcel of so many bytes goes on at once (our choice), so that stages hold little."""


def parcel_schema(rows: pa.Schema) -> pa.Schema:
    """Return the schema of parcels of such rows."""
    return pa.schema([pa.field(f.name, pa.large_list(f.type)) for f in rows])


def wrap(rows: pa.Table, ends: Sequence[int] | None = None) -> pa.Table:
    """Return parcels of `rows`: those before ends[0], those before ends[1], ...; default: one.

    Cells are not copied where each column is one piece.
    """
    ends = [rows.num_rows] if ends is None else ends
    offsets = pa.array(np.array([0, *ends], dtype=np.int64))
    columns = [
        pa.LargeListArray.from_arrays(offsets, _one_piece(column)) for column in rows.columns
    ]
    return pa.Table.from_arrays(columns, schema=parcel_schema(rows.schema))


def unwrap(parcels: pa.Table) -> pa.Table:
    """Return the rows of these parcels; nothing is copied where they came in one piece."""
    columns = [
        pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        for column in parcels.columns
    ]
    return pa.Table.from_arrays(columns, names=parcels.column_names)


def rows_of(parcels: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of these parcels as tables of one row."""
    rows = unwrap(parcels)
    for i in range(rows.num_rows):
        yield rows.slice(i, 1)


class Gathering:
    """Collects tables of rows until it is time to hand them on as one parcel."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.size_bytes = 0
        self.since_s = 0.0

    def begin(self) -> None:
        """Note the time where the work on a parcel's first row begins."""
        if not self.tables:
            self.since_s = time.monotonic()

    def add(self, rows: pa.Table) -> None:
        """Add rows that are done."""
        self.tables.append(rows)
        self.size_bytes += rows.nbytes

    def due(self) -> bool:
        """Whether the parcel should go on now."""
        return bool(self.tables) and (
            self.size_bytes >= HOLD_BYTES or time.monotonic() - self.since_s >= HOLD_S
        )

    def take(self) -> pa.Table:
        """Return the parcel and begin another."""
        rows = self.tables[0] if len(self.tables) == 1 else pa.concat_tables(self.tables)
        self.__init__()  # type: ignore[misc]
        return wrap(rows)


def _one_piece(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def handed_on(parcels: pa.Table, work: Callable[[pa.Table], pa.Table]) -> Iterator[pa.Table]:
    """Yield parcels of work(row) for each row of `parcels`, as soon as they are due."""
    gathering = Gathering()
    for row in rows_of(parcels):
        gathering.begin()
        gathering.add(work(row))
        if gathering.due():
            yield gathering.take()
    if gathering.tables:
        yield gathering.take()
