"""What was read of a memory, kept for as long as the memory has not changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

from marc_core.memory.tables import Tables

T = TypeVar("T")
MOST = 128
"""Answers that are kept (our choice); those asked for longest ago go first."""
MOST_ROWS = 100_000
"""Values of rows that are kept (our choice: some 20 MB of addresses); then all are read anew."""


class Kept:
    """Answers by question, forgotten when `events` or `videos` has a new version. Safe to use from
    several threads; answers are shared, so they must not be changed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._versions = (0, 0)
        self._answers: dict[Hashable, object] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what `read` returned for this key at the present version of the memory."""
        versions = (self._tables.events.version, self._tables.videos.version)
        with self._lock:
            if versions != self._versions:
                self._versions = versions
                self._answers.clear()
            if key in self._answers:
                self._answers[key] = found = self._answers.pop(key)
                return cast(T, found)
        answer = read()
        with self._lock:
            if versions == self._versions:
                self._answers[key] = answer
                if len(self._answers) > MOST:
                    self._answers.pop(next(iter(self._answers)))
        return answer


class KeptRows(Generic[T]):
    """One value of each row of a table, by the row's id, forgotten when the table has a new
    version; that there is none is kept, too. Safe to use from several threads."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._version = 0
        self._values: dict[str, T | None] = {}
        self._lock = threading.Lock()

    def of(self, ids: Sequence[str], read: Callable[[Sequence[str]], dict[str, T]]) -> dict[str, T]:
        """Return the values of these rows, by id; `read` gives those that are not kept, and leaves
        out rows that have none."""
        if not ids:
            return {}
        version = self._table.version
        with self._lock:
            if version != self._version:
                self._version = version
                self._values.clear()
            found = {i: self._values[i] for i in ids if i in self._values}
        missing = [i for i in ids if i not in found]
        if missing:
            new = read(missing)
            found |= new
            with self._lock:
                if version == self._version:
                    if len(self._values) + len(missing) > MOST_ROWS:
                        self._values.clear()
                    self._values.update((i, new.get(i)) for i in missing)
        return {i: value for i, value in found.items() if value is not None}
