"""What was read of a memory, kept for as long as the memory has not changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from marc_core.memory.tables import Tables

T = TypeVar("T")
MOST = 128
"""Answers that are kept (our choice); those asked for longest ago go first."""


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
