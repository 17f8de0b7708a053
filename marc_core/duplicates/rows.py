"""The events that may be copies of each other: places in memory, vectors in a temporary file.

    events --EventRows--> starts, lengths, owners (24 bytes an event) + ids
                      `-> unit vectors, 4 bytes a number, in a file without a name

Vectors of a million events would be gigabytes; a video's are read when they are needed.

Letters: E events, D channels.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marc_core.duplicates.align import Track
from marc_core.memory.hiding import SHOWN
from marc_core.memory.tables import missing_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = ["event_id", "video_id", "start_s", "end_s", "video_start_s", "embedding"]
_BATCH = 4096


class EventRows:
    """The shown events of some videos; close it to free the file.

    owners_E: the number of an event's video (int32), -1 of videos that are not asked for. starts_E:
    from its 0:00. lengths_E: seconds. Events are numbered as they were read.
    """

    def __init__(self, table: Any, numbers: Mapping[str, int]) -> None:
        """table: `events`. numbers: of videos, by id."""
        self._file = tempfile.TemporaryFile(prefix="marc-dedup-")  # noqa: SIM115 - close() does it
        self._dim = 0
        ids, owners, starts, lengths = [], [], [], []
        for batch in _batches(table):
            video_ids = batch["video_id"].to_pylist()
            owners.append(np.array([numbers.get(one, -1) for one in video_ids], np.int32))
            columns = {n: batch[n].to_numpy() for n in ("start_s", "end_s", "video_start_s")}
            starts.append(columns["start_s"] - columns["video_start_s"])
            lengths.append(columns["end_s"] - columns["start_s"])
            ids.append(batch["event_id"])
            self._write(batch["embedding"].combine_chunks())
        self.ids = pa.chunked_array([c for one in ids for c in one.chunks], pa.string())
        self.owners_E = np.concatenate([np.empty(0, np.int32), *owners])
        self.starts_E = np.concatenate([np.empty(0), *starts])
        self.lengths_E = np.concatenate([np.empty(0), *lengths])

    def close(self) -> None:
        """Free the file."""
        self._file.close()

    def __enter__(self) -> EventRows:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the file."""
        self.close()

    def of_videos(self, count: int) -> list[NDArray[np.int64]]:
        """Return the numbers of each video's events by their ids, which is by time."""
        keys = pa.table({"owner": self.owners_E, "id": self.ids})
        order = pc.sort_indices(keys, [("owner", "ascending"), ("id", "ascending")]).to_numpy()
        order = order.astype(np.int64)
        ends = np.searchsorted(self.owners_E[order], np.arange(-1, count), side="right")
        return [order[first:end] for first, end in pairwise(ends.tolist())]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the unit vectors (E, D) of these events."""
        order = np.argsort(rows, kind="stable")
        found = np.empty((len(rows), self._dim), np.float32)
        for first, end in _runs(rows[order]):
            size = 4 * self._dim
            count = int(rows[order[end - 1]] - rows[order[first]]) + 1
            read = os.pread(self._file.fileno(), count * size, int(rows[order[first]]) * size)
            there = np.frombuffer(read, np.float32).reshape(count, self._dim)
            found[order[first:end]] = there[rows[order[first:end]] - rows[order[first]]]
        return found

    def track(self, rows: NDArray[np.int64]) -> Track:
        """Return a video's events as a track."""
        return Track(
            starts_E=self.starts_E[rows],
            lengths_E=self.lengths_E[rows],
            vectors_ED=self.vectors(rows),
        )

    def _write(self, embeddings: pa.FixedSizeListArray) -> None:
        self._dim = embeddings.type.list_size
        vectors_ED = embeddings.flatten().to_numpy().reshape(-1, self._dim).astype(np.float32)
        lengths_E = np.linalg.norm(vectors_ED, axis=1, keepdims=True)
        self._file.write((vectors_ED / np.maximum(lengths_E, 1e-12)).tobytes())
        self._file.flush()


def _batches(table: Any) -> Iterator[pa.Table]:
    query = table.search().select(_COLUMNS)
    if not missing_columns(table):  # an older memory hides nothing
        query = query.where(SHOWN)
    for batch in query.to_batches(_BATCH):
        yield pa.table(batch)


def _runs(ordered: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of stretches of ascending numbers that follow each other or repeat."""
    breaks = np.flatnonzero(np.diff(ordered) > 1) + 1
    edges = [0, *breaks.tolist(), len(ordered)]
    if len(ordered):
        yield from pairwise(edges)
