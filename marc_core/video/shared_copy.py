"""Files of object stores on this machine: one copy for all processes that need it, part after part.

    hold ──under the folder's lock──> copies that nobody holds go
          there, complete ──> held (a shared lock on the copy itself)
          being fetched ────> wait for who does, look again
          not there ────────> fetched under an exclusive lock, then held
    release: whoever holds it last deletes it

The kernel drops locks with the process that has them, so what a killed process leaves is an
incomplete copy, which is fetched anew, or one that the next process deletes or uses.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from marc_core.errors import SourceError
from marc_core.types import VideoSource
from marc_core.video.source import check_local, fetch, find

_LOCK = "lock"


class HeldFile:
    """The one file that a process works on. One on this machine's disks is read where it lies."""

    def __init__(self, folder: str | None = None) -> None:
        """folder: of the copies; default: one for this user among the temporary files."""
        self._folder = Path(folder or f"{tempfile.gettempdir()}/marc-copies-{os.getuid()}")
        self._release: Callable[[], object] = lambda: None
        self._held: tuple[str, str] | None = None

    def path(self, source: VideoSource, options: Mapping[str, str]) -> str:
        """Return a local path of `source`, which stays until another file is asked for, `release`,
        or the end of this process. Raises what `local_copy` raises."""
        place = find(source, options)
        if place.store is None:
            self.release()
            check_local(source, place)
            return place.path
        key = f"{source.file_uri} {source.size_bytes} {source.version}"
        if self._held is not None and self._held[0] == key:
            return self._held[1]
        self.release()
        suffix = os.path.splitext(place.path)[1]
        copy = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}"
        file = _held(copy, source.size_bytes, lambda out: fetch(source, place, out))
        self._release = weakref.finalize(self, _let_go, copy, file)
        self._held = (key, str(copy))
        return str(copy)

    def release(self) -> None:
        """Let go of the file."""
        self._release()
        self._held = None


def _held(copy: Path, size_bytes: int, fetch_into: Callable[[BinaryIO], None]) -> BinaryIO:
    """Return the complete copy, open and locked for reading."""
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    _check_ours(copy.parent)
    while True:
        with _locked(copy.parent):
            _sweep(copy)
            is_new = not copy.exists()
            file = open(copy, "x+b" if is_new else "r+b")  # noqa: SIM115 - it stays open
            if is_new:
                fcntl.flock(file, fcntl.LOCK_EX)
        if is_new:
            return _fetched(copy, file, fetch_into)
        fcntl.flock(file, fcntl.LOCK_SH)  # waits for whoever fetches it
        with _locked(copy.parent):
            found = os.fstat(file.fileno())
            if found.st_nlink and found.st_size == size_bytes:
                return file
            if found.st_nlink:
                copy.unlink()  # whoever fetched it was killed
        file.close()


def _check_ours(folder: Path) -> None:
    """Raise SourceError for a folder in which somebody else could have put the copies."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SourceError(
            f"Copies of remote files must lie in a folder of this user. Got '{folder}', which is "
            "another's, or a link: remove it, or set TMPDIR to another place."
        )


def _fetched(copy: Path, file: BinaryIO, fetch_into: Callable[[BinaryIO], None]) -> BinaryIO:
    try:
        fetch_into(file)
    except BaseException:
        copy.unlink(missing_ok=True)
        file.close()
        raise
    with _locked(copy.parent):  # between two locks nobody may find it without any
        fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _let_go(copy: Path, file: BinaryIO) -> None:
    with _locked(copy.parent):
        if _is_free(file):
            copy.unlink(missing_ok=True)
    file.close()


def _sweep(wanted: Path) -> None:
    """Delete the copies that nobody holds, except the wanted one."""
    for copy in wanted.parent.iterdir():
        if copy not in (wanted, wanted.parent / _LOCK):
            with open(copy, "rb") as file:
                if _is_free(file):
                    copy.unlink()


def _is_free(file: BinaryIO) -> bool:
    """Whether nobody else has a lock on the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / _LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
