"""Rows come out of a parcel as they went in; a parcel goes on by age and by bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines import parcels
from pipelines.parcels import handed_on, rows_of, unwrap, wrap

ROWS = pa.table(
    {
        "name": ["a", "b", "c", "d"],
        "data": pa.array([b"1", None, b"", b"4444"], pa.large_binary()),
        "shape": pa.array([[1, 2], [], None, [3]], pa.list_(pa.int64())),
    }
)


def test_rows_survive_the_parcel() -> None:
    one = wrap(ROWS)
    one.validate(full=True)
    assert one.num_rows == 1
    assert unwrap(one).equals(ROWS)
    assert [row["name"][0].as_py() for row in rows_of(one)] == ["a", "b", "c", "d"]


def test_parcels_are_cut_where_told_and_sliced_alone() -> None:
    three = wrap(ROWS, [1, 3, 4])
    assert three.num_rows == 3
    assert unwrap(three.slice(1, 1)).equals(ROWS.slice(1, 2))
    assert unwrap(pa.concat_tables([three, wrap(ROWS)])).num_rows == 8


def test_large_cells_are_not_copied() -> None:
    frames = np.arange(1000, dtype=np.uint8)
    offsets = pa.py_buffer(np.array([0, frames.nbytes]))
    cell = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(frames)])
    back = unwrap(wrap(pa.table({"frames": cell})))["frames"].chunk(0)
    assert np.shares_memory(np.frombuffer(back.buffers()[2], np.uint8), frames)


def taken(monkeypatch, *, seconds_a_row: float, bytes_a_row: int, rows: int = 8) -> list[int]:
    """Hand on rows that take so long each; return how many rows each parcel holds."""
    now = [100.0]
    monkeypatch.setattr(parcels.time, "monotonic", lambda: now[0])

    def work(row: pa.Table) -> pa.Table:
        now[0] += seconds_a_row
        return pa.table({"data": [b"x" * bytes_a_row]})

    todo = wrap(pa.table({"i": range(rows)}))
    return [unwrap(parcel).num_rows for parcel in handed_on(todo, work)]


def test_a_row_that_took_long_goes_on_at_once_and_quick_ones_share(monkeypatch) -> None:
    assert taken(monkeypatch, seconds_a_row=0.01, bytes_a_row=10) == [8]
    assert taken(monkeypatch, seconds_a_row=0.3, bytes_a_row=10) == [2] * 4
    assert taken(monkeypatch, seconds_a_row=60.0, bytes_a_row=10) == [1] * 8


def test_a_full_parcel_goes_on_at_once(monkeypatch) -> None:
    size = parcels.HOLD_BYTES // 2 + 1
    assert taken(monkeypatch, seconds_a_row=0.0, bytes_a_row=size) == [2, 2, 2, 2]


def test_parcels_stream_one_row_is_out_before_the_next_begins() -> None:
    begun = []

    def work(row: pa.Table) -> pa.Table:
        begun.append(row["i"][0].as_py())
        return pa.table({"data": [b"x" * parcels.HOLD_BYTES]})

    stream = handed_on(wrap(pa.table({"i": [0, 1, 2]})), work)
    next(stream)
    assert begun == [0]
