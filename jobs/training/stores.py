"""Folders and buckets of a training run, behind one pair (file system, path)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marc_core.video.source import locate


def opened(place: str, options: Mapping[str, str]) -> tuple[Any, str]:
    """Return (pyarrow file system, path in it). Raises SourceError for an address that is none."""
    from pyarrow.fs import LocalFileSystem

    where = locate(place, options)
    return where.store or LocalFileSystem(), where.path


def write_whole(store: Any, path: str, data: bytes) -> None:
    """Write a file so that no reader sees half of it; its folder may be new."""
    from pyarrow.fs import LocalFileSystem

    local = isinstance(store, LocalFileSystem)
    if local:
        store.create_dir(path.rpartition("/")[0], recursive=True)
    part = f"{path}.part" if local else path
    with store.open_output_stream(part) as stream:
        stream.write(data)
    if local:
        store.move(part, path)


def files_below(store: Any, folder: str, ending: str) -> list[Any]:
    """Return pyarrow's FileInfo of the files below a folder, by path; none where there is none."""
    from pyarrow.fs import FileSelector

    selector = FileSelector(folder, recursive=True, allow_not_found=True)
    found = [info for info in store.get_file_info(selector) if info.path.endswith(ending)]
    return sorted(found, key=lambda info: str(info.path))
