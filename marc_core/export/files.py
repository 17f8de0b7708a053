"""Rows as files: JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    """Write a Parquet file; return the number of rows."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    count = 0
    with whole_file(path) as partial, ParquetWriter(partial, schema) as writer:
        for some in _pieces(iter(rows)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
            count += len(some)
    return count


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the file to write instead: it takes the name of `path` when it is complete, and goes
    when it is not. Folders above are made. Raises IsADirectoryError before anything is written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _pieces(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield some
