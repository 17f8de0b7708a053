"""A training set on disk: Parquet files of many videos each, written whole.

    <output>/<fingerprint>/rows/00012.parquet      a row a question   (TrainSample)
    <output>/<fingerprint>/videos/00012.parquet    a row a video: how it ended; written last

A shard is done when its file of videos exists, so a killed worker leaves nothing half written and
a rerun does only what is missing. Folder or bucket address, whatever pyarrow can open.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marc_core.errors import TrainingError
from marc_core.evaluation.results.shards import Files
from marc_core.rl.samples import TrainSample

ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("problem_type", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("media", pa.string()),
        ("source", pa.string()),
        ("evidence", pa.large_binary()),
        ("uncut", pa.large_binary()),
        ("teacher", pa.large_binary()),
    ]
)
"""Columns of `TrainSample.to_row`, and what the teacher reads (Evidence.to_bytes, may be empty)."""
VIDEOS = pa.schema([("path", pa.string()), ("questions", pa.int32()), ("error", pa.string())])
"""How a video ended. error: the reason where it has no rows, else empty."""

ROW_GROUP = 64
"""Questions that are read together: training asks them in a random order (our choice)."""


@dataclass(frozen=True, slots=True)
class VideoRows:
    """What became of one video: rows, or the reason why there are none."""

    path: str
    rows: tuple[dict[str, Any], ...]
    error: str = ""


class SetShards:
    """The shards of one training set. It may travel to workers."""

    def __init__(self, output: str, fingerprint: str) -> None:
        """Raises ConfigError for an address that pyarrow cannot open."""
        self.files, self.folder = Files(output), fingerprint

    @property
    def address(self) -> str:
        """Where the set lies, for `read_samples`."""
        return self.files.path(self.folder)

    def write(self, name: str, videos: Sequence[VideoRows]) -> None:
        """Write one shard; writing it again replaces it."""
        rows = [row for video in videos for row in video.rows]
        ends = [{"path": v.path, "questions": len(v.rows), "error": v.error} for v in videos]
        self._write(f"rows/{name}", rows, ROWS)
        self._write(f"videos/{name}", ends, VIDEOS)

    def done(self) -> set[str]:
        """Return the names of the shards that are complete."""
        found = self.files.names(f"{self.folder}/videos", ".parquet")
        return {path.rsplit("/", 1)[1].removesuffix(".parquet") for path in found}

    def ends(self) -> list[dict[str, Any]]:
        """Return how every video of the complete shards ended."""
        found: list[dict[str, Any]] = []
        for data in self.files.read_all(f"{self.folder}/videos", ".parquet"):
            found += pq.read_table(io.BytesIO(data)).to_pylist()
        return found

    def _write(self, name: str, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
        sink = io.BytesIO()
        table = pa.Table.from_pylist(list(rows), schema=schema)
        pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP)
        self.files.write(f"{self.folder}/{name}.parquet", sink.getvalue())


def read_rows(address: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the set at `address`, shard after shard. Raises TrainingError."""
    files = Files(address)
    names = files.names("rows", ".parquet")
    if not names:
        raise TrainingError(
            f"A training set must be a folder that `marc train-set` wrote. Found no rows in "
            f"'{address}': write one first, or correct the path."
        )
    for path in names:
        with files.fs.open_input_file(path) as file:
            yield from pq.read_table(file).to_pylist()


def read_samples(address: str) -> Iterator[TrainSample]:
    """Yield the samples of the set at `address`. Raises TrainingError."""
    for row in read_rows(address):
        yield TrainSample.from_row(row)
