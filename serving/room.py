"""The bytes that uploads may take together, reserved before they are written.

A reservation is the size of an upload's own unfinished file, which is longer than what has come of
it (sparse, so that it takes no blocks). Whoever looks at the folder, in any process on any node,
sees what all the others have reserved; what a process leaves behind that dies is found, too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from serving.errors import ApiError

STEP_BYTES = 16 * 1024**2
"""Reserved at a time for a body whose length is not said (our choice: a look at the folder costs
milliseconds where there are thousands of files)."""
PART = ".part"


class Room:
    """The room below a folder, for files that lie in folders of their own in it."""

    def __init__(self, folder: Path, total_bytes: int) -> None:
        self.folder, self.total_bytes = folder, total_bytes

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process reserve during this block."""
        with open(self.folder.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def reserve(self, file: IO[bytes], least_bytes: int, wish_bytes: int) -> int:
        """Let a file of the folder grow; return to how many bytes: at least `least_bytes`, at most
        `wish_bytes` and never all that is left. Call it `alone`. Raises a 507 where there is no
        room for `least_bytes`."""
        own = os.fstat(file.fileno()).st_size
        left = self.total_bytes - (self.held() - own)
        if left < least_bytes:
            message = (
                f"Uploads may take {self.total_bytes:,} bytes together, and {max(0, left):,} are "
                "left. Delete some videos."
            )
            raise ApiError(507, "storage_full", message)
        spare = (left - least_bytes) // 8  # others want some of it, too
        granted = max(own, min(least_bytes + spare, wish_bytes))
        os.ftruncate(file.fileno(), granted)
        return granted

    def held(self) -> int:
        """Return the bytes of all files, as far as they are written or reserved."""
        return sum(size for size, _ in self._files())

    def under_way(self) -> int:
        """Return how many files are not complete yet."""
        return sum(name.endswith(PART) for _, name in self._files())

    def _files(self) -> Iterator[tuple[int, str]]:
        for folder in os.scandir(self.folder):
            with suppress(FileNotFoundError, NotADirectoryError):  # deleted a moment ago
                for entry in os.scandir(folder.path):
                    yield entry.stat().st_size, entry.name
