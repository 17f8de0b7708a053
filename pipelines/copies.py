"""Files with the same bytes under several addresses: decoded once, their rows copied.

    work --size--> files that share it --digest--> firsts, indexed as ever
                   (nothing else is read)          copies, wait
    then:                       original indexed --> its events, texts and features under the
                                                     copy's address, one publication each
                                not indexed      --> the copy is indexed itself

A copy is found as any video is; `marc dedup` lists and hides it. What files beside it say, and its
clock, are read again at the end of the run, because they may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from marc_core.config import IndexConfig
from marc_core.digest import digest_of, full_digest
from marc_core.errors import SourceError
from marc_core.filenames import stream_of
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource
from marc_core.vanished import videos_by_size
from marc_core.video.source import clear_errors, is_unreadable, locate
from pipelines.writing import Done

FETCHED_FROM_BYTES = 64 * 1024**2
"""Size from which on a file of an object store is looked at (our choice: 4 MiB of it are fetched to
know it; an archive of short clips would be fetched twice, and the first time before any is
decoded)."""
_READERS = 16
"""Files whose samples are read at once (our choice: reading from a store is waiting)."""


class Copies(NamedTuple):
    """work: rows to index. copies: file -> the video that it is a copy of."""

    work: pa.Table
    copies: Mapping[VideoSource, Original]


class Original(NamedTuple):
    """A video that is indexed, or will be in this run."""

    video_id: str
    uri: str


def find_copies(
    store: MemoryStore, work: pa.Table, fingerprints: Fingerprints, config: IndexConfig
) -> Copies:
    """Return the work without files whose bytes another one has, and what those are copies of.

    work: rows of WORK and `load_bytes`. Only files of equal size are looked at, 4 MiB of each.
    """
    known = videos_by_size(store, fingerprints)
    sizes = pc.value_counts(work["load_bytes"]).to_pylist()
    shared = {n["values"] for n in sizes if n["counts"] > 1} | {float(size) for size in known}
    shared.discard(0.0)  # empty files are alike, and none has a video to share
    rows = work.filter(pc.is_in(work["load_bytes"], pa.array(sorted(shared), pa.float64())))
    sources = [VideoSource.from_json(text) for text in rows["source"].to_pylist()]
    with ThreadPoolExecutor(_READERS) as pool:
        digests = list(pool.map(lambda source: _digest(source, config), sources))
    seen: dict[tuple[str, int], Original] = {}
    for video_id, uri, digest in (row for rows_ in known.values() for row in rows_):
        seen.setdefault((digest, stream_of(uri)), Original(video_id, uri))
    copies: dict[VideoSource, Original] = {}
    for source, digest in zip(sources, digests, strict=True):
        if digest is None:
            continue
        first = seen.setdefault((digest, source.stream), Original(source.video_id, source.uri))
        if first.video_id != source.video_id and _surely(first, source):
            copies[source] = first
    ids = pa.array([source.video_id for source in copies], pa.string())
    return Copies(work.filter(pc.invert(pc.is_in(work["video_id"], ids))), copies)


def index_once(
    work: pa.Table,
    index: Callable[[pa.Table], None],
    *,
    store: MemoryStore,
    fingerprints: Fingerprints,
    config: IndexConfig,
    count: Done,
) -> int:
    """Index these videos, files of the same bytes once; return how many were copied."""
    firsts, copies = find_copies(store, work, fingerprints, config)
    index(firsts)
    if not copies:
        return 0
    done: set[str] = set()
    for source, original in copies.items():
        made = store.copy_videos({source: original.video_id})
        done.update(made)
        count(len(made), 0)
    left = [source.video_id for source in copies if source.video_id not in done]
    index(work.filter(pc.is_in(work["video_id"], pa.array(left, pa.string()))))
    return len(done)


def _digest(source: VideoSource, config: IndexConfig) -> str | None:
    """Return the digest of a file where it lies, None where it cannot be read: decoding says why.

    In an object store 4 MiB of it are fetched; None for smaller ones (FETCHED_FROM_BYTES).
    """
    if is_unreadable(source):
        return None
    try:
        place = locate(source.file_uri, config.archive_options)
        with clear_errors(source.uri):
            if place.store is None:
                with open(place.path, "rb") as file:
                    return digest_of(file, source.size_bytes)
            if source.size_bytes < FETCHED_FROM_BYTES:
                return None
            with place.store.open_input_file(place.path) as file:
                return digest_of(file, source.size_bytes)
    except SourceError:
        return None


def _surely(first: Original, source: VideoSource) -> bool:
    """Return whether two files are the same byte for byte, where both lie on a disk here; in an
    object store equal size and samples have to do."""
    paths = list(_local(first.uri, source.uri))
    if len(paths) < 2:
        return True
    try:
        return full_digest(paths[0]) == full_digest(paths[1])
    except OSError:
        return False


def _local(*uris: str) -> Iterator[str]:
    for uri in uris:
        place = locate(uri.removesuffix(f"#{stream_of(uri)}") if stream_of(uri) else uri, {})
        if place.store is None:
            yield place.path
