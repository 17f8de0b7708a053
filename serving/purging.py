"""The bytes of deleted videos leave the disk in the background."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from marc_core.memory.gc import GcPolicy

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

log = logging.getLogger("marc.serving")


class Purger:
    """Purges a memory after deletions, one purge at a time.

    A purge takes a minute, because readers get time to end. Deletions that come meanwhile share the
    next one. One that is cut short by the process's end is made good by the next, or by
    `marc optimize --purge`.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._wanted = self._running = False

    def want(self) -> None:
        """Ask for a purge of what is deleted now."""
        with self._lock:
            self._wanted = True
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="marc-purge", daemon=True).start()

    def _run(self) -> None:
        while self._next():
            try:
                self._store.gc(GcPolicy(purge=True))
            except Exception:  # the rows are gone; their bytes go with the next purge
                log.exception("purging the memory")

    def _next(self) -> bool:
        with self._lock:
            self._running, self._wanted = self._wanted, False
            return self._running
