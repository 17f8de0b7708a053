"""Videos of a memory whose files are no longer where they were: gone for good, or moved.

    prune   rows below the listed addresses whose files are gone: removed when the user says so
    moved   a new file with the content of one that is gone: its events stay, under the new address

A file counts as gone only when it was looked for and is not there. Equal contents at two places are
two videos.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core.digest import content_digest
from marc_core.errors import SourceError
from marc_core.filenames import canonical, is_below, names_a_stream, stream_of
from marc_core.fingerprints import Fingerprints
from marc_core.types import VideoSource
from marc_core.video import list_videos, local_copy, stream_source
from marc_core.video.source import clear_errors, is_unreadable, locate

if TYPE_CHECKING:
    from marc_core.config import IndexConfig
    from marc_core.memory import MemoryStore


def find_vanished(
    store: MemoryStore, config: IndexConfig, *, even_empty: bool = False
) -> list[dict[str, Any]]:
    """Return the rows (video_id, uri, status, num_events) below `config.archive` that are gone.

    Raises SourceError when an address or a folder below it cannot be listed, and, unless
    `even_empty`, when one holds no video at all: a disk that is not mounted looks like that.
    """
    options = config.archive_options
    missing = [uri for uri in config.archive if is_gone(uri.rstrip("/") or "/", options)]
    if missing and not even_empty:
        raise SourceError(
            f"'{missing[0]}' does not exist. Is the disk mounted? Nothing was removed. If it is "
            "really gone: --even-empty."
        )
    there_still = [uri for uri in config.archive if uri not in missing]
    found = list(list_videos(there_still, config.patterns, options))
    if unreadable := [s.uri for s in found if is_unreadable(s)]:
        raise SourceError(
            f"'{unreadable[0]}' and {len(unreadable) - 1} more folders cannot be listed, so nobody "
            "knows what is gone from them. Nothing was removed. Make them readable, or name others."
        )
    there = {canonical(source.uri) for source in found}
    rows = store.videos(columns=["video_id", "uri", "status", "num_events"]).to_pylist()
    placed = [(row, canonical(_file(row["uri"]))) for row in rows]
    gone: dict[str, dict[str, Any]] = {}
    for uri in config.archive:
        root = canonical(_absolute(uri, config))
        below = [(row, place) for row, place in placed if is_below(place, root)]
        if below and not even_empty and not any(is_below(place, root) for place in there):
            raise SourceError(
                f"'{uri}' holds no video, and the memory has {len(below):,} of it. Is the disk "
                "mounted? Nothing was removed. If they are really gone: --even-empty."
            )
        gone |= {row["video_id"]: row for row, place in below if place not in there}
    return [row for row in gone.values() if is_gone(row["uri"], config.archive_options)]


def _absolute(uri: str, config: IndexConfig) -> str:
    place = locate(uri, config.archive_options)
    return place.uri_of(place.path)


def _file(uri: str) -> str:
    """Return the file's address of a video, which may be one of its streams."""
    return uri.removesuffix(f"#{stream_of(uri)}") if names_a_stream(uri) else uri


def is_gone(uri: str, options: Mapping[str, str]) -> bool:
    """Return whether nothing lies at a video's address; raise SourceError where nobody can say.

    An address that ends in a slash stands for a folder that once could not be listed: it is gone
    when it was listed this time.
    """
    from pyarrow.fs import FileType

    if uri.endswith("/"):
        return True
    place = locate(_file(uri), options)
    if place.store is None:
        return not os.path.lexists(place.path)
    with clear_errors(uri):
        return bool(place.store.get_file_info(place.path).type == FileType.NotFound)


def find_moved(
    store: MemoryStore,
    new: Iterable[VideoSource],
    fingerprints: Fingerprints | None,
    options: Mapping[str, str],
    *,
    absent: pa.Array | pa.ChunkedArray | None = None,
) -> dict[str, VideoSource]:
    """Return video_id -> where the file lies now, of videos whose file is gone and has come back
    elsewhere as one of `new` with the same content; all streams of a file move together.

    Only what is indexed under `fingerprints` is of use where all else would be decoded again
    anyway; None: all that is indexed. A new file is read only where one of its size is gone.
    absent: ids of the videos that a listing just now did not show; None: any may be gone. Each file
    is looked for once at most, however many new ones are of its size.
    """
    known = videos_by_size(store, fingerprints, among=absent)
    gone: dict[int, dict[str, list[tuple[str, str, str]]]] = {}
    moves: dict[str, VideoSource] = {}
    for source in new:
        size = source.size_bytes
        if size not in gone:
            gone[size] = _gone_files(known.get(size, ()), options)
        lost = gone[size]
        digest = _digest(source, options) if lost else None
        same = (f for f, rows in lost.items() if any(other == digest for *_, other in rows))
        file = next(same, None)
        for video_id, uri, _ in lost.pop(file) if file is not None else ():
            moves[video_id] = stream_source(source, stream_of(uri))
    return moves


def _gone_files(
    rows: Iterable[tuple[str, str, str]], options: Mapping[str, str]
) -> dict[str, list[tuple[str, str, str]]]:
    """Return, by file, the rows (video_id, uri, digest) whose files are surely gone."""
    files: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        files.setdefault(_file(row[1]), []).append(row)
    return {file: found for file, found in files.items() if _surely_gone(file, options)}


def videos_by_size(
    store: MemoryStore,
    fingerprints: Fingerprints | None,
    *,
    among: pa.Array | pa.ChunkedArray | None = None,
) -> dict[int, list[tuple[str, str, str]]]:
    """Return (video_id, uri, digest) of the videos that are indexed as configured, by size.

    among: ids of those that count; None: all.
    """
    names = ["video_id", "uri", "content_digest", "size_bytes"]
    columns = fingerprints.columns() if fingerprints else {}
    rows = store.videos(status="indexed", columns=[*names, *columns])
    keep = pc.is_valid(rows["content_digest"])
    if among is not None:
        keep = pc.and_(keep, pc.is_in(rows["video_id"], among))
    for name, value in columns.items():
        same = pc.is_null(rows[name]) if value is None else pc.equal(rows[name], value)
        keep = pc.and_(keep, same)
    found: dict[int, list[tuple[str, str, str]]] = {}
    for video_id, uri, digest, size in _tuples(rows.filter(keep).select(names)):
        found.setdefault(size, []).append((video_id, uri, digest))
    return found


def _tuples(rows: pa.Table) -> Iterable[Sequence[Any]]:
    return zip(*(column.to_pylist() for column in rows.columns), strict=True)


def _surely_gone(uri: str, options: Mapping[str, str]) -> bool:
    try:
        return is_gone(uri, options)
    except SourceError:  # nobody can say: then it is not taken for moved
        return False


def _digest(source: VideoSource, options: Mapping[str, str]) -> str | None:
    """Return the content digest of a file, None where it cannot be read: decoding will say why."""
    try:
        with local_copy(source, options) as path:
            return content_digest(path)
    except (SourceError, OSError):
        return None
