"""A training set as a run reads it: rows by number, from Parquet files in a folder or bucket.

Only footers are read at first. A row's group is read when the row is asked for, and kept while
there is room: a small set is read once, a large one never lies in memory as a whole.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from jobs.training.stores import files_below, opened
from marc_core.errors import TrainingError
from marc_core.rl.samples import TrainSample

COLUMNS = ("id", "question", "problem_type", "answers", "media", "source", "evidence", "uncut")
TEACHER = "teacher"
"""Column with Evidence.to_bytes of what the teacher reads; empty for a row without."""
KEPT_BYTES = 1024**3
"""Row groups that are kept (our choice)."""


class TrainRows:
    """The rows of a training set, in the order of its files' names.

    place: the set's folder, or the one that was named as its output. fingerprint: 12 hex digits of
    the files' names and sizes. Raises TrainingError where there are no rows, or not those of a
    training set.
    """

    def __init__(self, place: str, options: Mapping[str, str], *, kept_bytes: int = KEPT_BYTES):
        import pyarrow.parquet as pq

        self.place, self.kept_bytes = place, kept_bytes
        self._store, folder = opened(place, options)
        self._groups: list[tuple[str, int]] = []
        self._starts, digest = [0], hashlib.sha256()
        for info in _row_files(files_below(self._store, folder, ".parquet"), place):
            digest.update(f"{info.path.removeprefix(folder)} {info.size}\n".encode())
            with self._store.open_input_file(info.path) as file:
                footer = pq.ParquetFile(file)
                self._check(info.path, footer.schema_arrow.names)
                self.has_teacher = TEACHER in footer.schema_arrow.names
                meta = footer.metadata
            self._groups += [(info.path, g) for g in range(meta.num_row_groups)]
            sizes = [meta.row_group(g).num_rows for g in range(meta.num_row_groups)]
            self._starts += list(itertools.accumulate(sizes, initial=self._starts[-1]))[1:]
        self.fingerprint = digest.hexdigest()[:12]
        if not len(self):
            raise TrainingError(
                f"train_set must be a folder or address of Parquet files with rows. Got '{place}', "
                "which has none. Write it first (docs/training.md)."
            )
        self._kept: OrderedDict[tuple[int, bool], Any] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def sample(self, row: int) -> TrainSample:
        """Return a row's question, with what the student reads."""
        return TrainSample.from_row(self._row(row, teacher=False))

    def teacher(self, row: int) -> bytes:
        """Return what the teacher reads of a row, b"" where the set does not hold it."""
        return bytes(self._row(row, teacher=True)[TEACHER] or b"") if self.has_teacher else b""

    def _check(self, path: str, names: list[str]) -> None:
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise TrainingError(
                f"A training set's files must have the columns {', '.join(COLUMNS)}. Got '{path}' "
                f"without {', '.join(missing)}."
            )

    def _row(self, row: int, *, teacher: bool) -> dict[str, Any]:
        group = bisect.bisect_right(self._starts, row) - 1
        table = self._table(group, teacher)
        found: dict[str, Any] = table.slice(row - self._starts[group], 1).to_pylist()[0]
        return found

    def _table(self, group: int, teacher: bool) -> Any:
        import pyarrow.parquet as pq

        key = (group, teacher)
        if key not in self._kept:
            path, number = self._groups[group]
            with self._store.open_input_file(path) as file:
                columns = [TEACHER] if teacher else list(COLUMNS)
                self._kept[key] = pq.ParquetFile(file).read_row_group(number, columns=columns)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(t.nbytes for t in self._kept.values()) > self.kept_bytes:
            self._kept.popitem(last=False)
        return self._kept[key]


def _row_files(found: list[Any], place: str) -> list[Any]:
    """Return the files of rows: those in a folder `rows` where there is one, else all.

    Raises TrainingError where several training sets lie below the place.
    """
    inside = [info for info in found if info.path.split("/")[-2] == "rows"]
    folders = sorted({info.path.rpartition("/")[0] for info in inside})
    if len(folders) > 1:
        raise TrainingError(
            f"train_set must name one training set. Got '{place}' with {len(folders)} below it: "
            f"name one of {', '.join(folders)}."
        )
    return inside or found
