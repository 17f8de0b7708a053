"""What tells two files' contents apart without reading all of a large one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAMPLES, _SAMPLE_BYTES = 64, 64 * 1024
"""4 MiB of a file, spread evenly, its first and last bytes included (our choice: 10 ms from a disk
cache, and two encodings of one length differ nearly everywhere)."""


def content_digest(path: str | Path) -> str:
    """Return `<size in bytes>-<32 hex digits>` of a file's content, wherever it lies.

    Files up to 4 MiB are hashed whole, larger ones by their size and 64 samples. Equal digests are
    a strong hint that two files are the same; `full_digest` of both confirms it, where both can be
    read. Raises OSError.
    """
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        return digest_of(file, size)


def digest_of(file: IO[bytes], size: int) -> str:
    """Return the `content_digest` of an open file of so many bytes. Raises OSError."""
    digest = hashlib.sha256(str(size).encode())
    if size <= _SAMPLES * _SAMPLE_BYTES:
        digest.update(file.read())
    else:
        for i in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return f"{size}-{digest.hexdigest()[:32]}"


def full_digest(path: str | Path) -> str:
    """Return the 64 hex digits of the SHA-256 of a file's whole content. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def frames_digest(times_s: NDArray[np.float64]) -> str:
    """Return 16 hex digits of the times of an event's frames: another cut shows others."""
    return hashlib.blake2b(times_s.tobytes(), digest_size=8).hexdigest()
