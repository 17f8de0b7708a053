"""Rows as files: JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
_ROWS_AT_ONCE = 4096


def write_jsonl(rows: Iterable[Row], schema: pa.Schema, file: IO[str]) -> int:
    """Write a JSON object a line, every column in each; return the number of rows."""
    count = 0
    for row in rows:
        values = {name: row[name] for name in schema.names}
        file.write(json.dumps(values, ensure_ascii=False) + "\n")
        count += 1
    return count


def write_csv(rows: Iterable[Row], schema: pa.Schema, file: IO[str]) -> int:
    """Write a table with a head as RFC 4180 has it; a list as JSON, nothing where it is null."""
    writer = csv.writer(file)
    writer.writerow(schema.names)
    count = 0
    for row in rows:
        values = (row[name] for name in schema.names)
        writer.writerow(
            [json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for v in values]
        )
        count += 1
    return count


def write_parquet(rows: Iterable[Row], schema: pa.Schema, path: Path) -> int:
    """Write a Parquet file; it appears under its name when it is complete."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    partial, count = path.with_name(f".{path.name}.part"), 0
    with ParquetWriter(partial, schema) as writer:
        for some in _pieces(iter(rows)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
            count += len(some)
    partial.replace(path)
    return count


def _pieces(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield some
