"""Which videos an archive has, found while somebody takes them: an archive may hold a million.

    addresses --Listing--> VideoSource, ...     one folder's names are in memory at a time
                  then:    .ignored             files like videos that no pattern takes

A folder that cannot be listed is a source, too: it ends as a failed row with the reason, and the
rest of the listing goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from marc_core.errors import SourceError
from marc_core.filenames import (
    canonical,
    is_below,
    looks_like_video,
    matcher,
    names_a_stream,
)
from marc_core.video.beside import files_beside, usual_names
from marc_core.video.source import (
    Location,
    clear_errors,
    local_source,
    locate,
    store_source,
    unreadable_folder,
)

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

    from marc_core.types import VideoSource

_EXAMPLES = 5
"""Names kept of files that no pattern takes (our choice)."""


def list_videos(
    uris: Iterable[str], patterns: Iterable[str], options: Mapping[str, str]
) -> Listing:
    """Return the videos of all `uris`, each once, to be iterated.

    Folders and prefixes are searched recursively for `patterns` (case-insensitive); hidden names
    (leading dot) and links to folders are left out. A file named itself is always taken. Raises
    SourceError at once for an address that does not exist or cannot be read.
    """
    places = [locate(uri, options) for uri in uris]
    kinds = [_check_exists(place) for place in places]
    files = [p for p, is_folder in zip(places, kinds, strict=True) if not is_folder]
    folders = [p for p, is_folder in zip(places, kinds, strict=True) if is_folder]
    return Listing(files, folders, patterns)


class Listing:
    """The videos of an archive. Iterate once.

    `ignored` and `ignored_names` (the first few) are complete when the iteration has ended.
    """

    def __init__(
        self, files: Sequence[Location], folders: Sequence[Location], patterns: Iterable[str]
    ) -> None:
        self._named = {place.uri_of(place.path): place for place in files}
        self._folders = folders
        self._roots = [canonical(place.uri_of(place.path)) for place in folders]
        self._wanted = matcher(patterns)
        self._walked: set[tuple[int, int]] = set()
        self._prefixes: list[str] = []
        self.ignored = 0
        self.ignored_names: list[str] = []

    def covers(self, uri: str) -> bool:
        """Return whether `uri` lies in one of the listed folders, or is one."""
        place = canonical(uri)
        return any(is_below(place, root) for root in self._roots)

    def __iter__(self) -> Iterator[VideoSource]:
        for _, place in sorted(self._named.items()):
            yield from self._file(place)
        for place in self._folders:
            yield from self._local(place) if place.store is None else self._store(place)

    def _file(self, place: Location) -> Iterator[VideoSource]:
        if place.store is None:
            yield local_source(place.path, _names_beside(place.path))
            return
        with clear_errors(place.uri_of(place.path)):
            info = place.store.get_file_info(place.path)
            near = place.store.get_file_info(usual_names(place.path))
        yield store_source(place, info, [file for file in near if file.is_file])

    def _local(self, place: Location) -> Iterator[VideoSource]:
        """Yield a folder's videos, then those of its folders, in the order of names."""
        left = [place.path]
        while left:
            folder = left.pop()
            if not self._is_new(folder):
                continue
            names, folders, error = _entries(folder)
            wanted = self._chosen(names)
            beside = files_beside([*names, *folders], wanted)
            for name in wanted:
                path = os.path.join(folder, name)
                if not self._named or place.uri_of(path) not in self._named:
                    yield local_source(path, beside.get(name, ()))
            if error is not None:
                yield unreadable_folder(place.uri_of(folder), error.strerror or str(error))
            left += [os.path.join(folder, name) for name in sorted(folders, reverse=True)]

    def _is_new(self, folder: str) -> bool:
        """Return whether a folder was not walked yet, under this or another name."""
        try:
            stat = os.stat(folder)
        except OSError:  # listing it says why
            return True
        key = (stat.st_dev, stat.st_ino)
        if key in self._walked:
            return False
        self._walked.add(key)
        return True

    def _chosen(self, names: Iterable[str]) -> list[str]:
        """Return the names that a pattern takes, sorted; count the others that look like videos."""
        wanted = []
        for name in names:
            if self._wanted(name):
                wanted.append(name)
            elif looks_like_video(name):
                self.ignored += 1
                if len(self.ignored_names) < _EXAMPLES:
                    self.ignored_names.append(name)
        return sorted(wanted)

    def _store(self, place: Location) -> Iterator[VideoSource]:
        """Yield a prefix's own videos, then those below each of its folders, one at a time."""
        from pyarrow.fs import FileType

        top = _inside(place, place.path, recursive=False)
        yield from self._objects(place, [i for i in top if i.type == FileType.File])
        for folder in sorted(i.path for i in top if i.type == FileType.Directory):
            try:
                found = _inside(place, folder, recursive=True)
            except SourceError as error:
                yield unreadable_folder(place.uri_of(folder), str(error))
                continue
            yield from self._objects(place, [i for i in found if i.type == FileType.File])
        self._prefixes.append(f"{place.uri_of(place.path)}/")

    def _objects(self, place: Location, files: Iterable[FileInfo]) -> Iterator[VideoSource]:
        folders: dict[str, dict[str, FileInfo]] = {}
        for info in files:
            folders.setdefault(os.path.dirname(info.path), {})[info.base_name] = info
        for folder in sorted(folders):
            named = folders[folder]
            if any(f"{place.uri_of(folder)}/".startswith(prefix) for prefix in self._prefixes):
                continue
            wanted = self._chosen(named)
            beside = files_beside(named, wanted)
            for name in wanted:
                if place.uri_of(named[name].path) not in self._named:
                    near = [named[other] for other in beside.get(name, ())]
                    yield store_source(place, named[name], near)


def _check_exists(place: Location) -> bool:
    """Return whether `place` is a folder; raise SourceError where there is nothing."""
    from pyarrow.fs import FileType

    if place.store is None:
        if os.path.isdir(place.path):
            return True
        if os.path.lexists(place.path):
            return False
        raise SourceError(
            f"'{place.uri_of(place.path)}' does not exist. Name a folder or file that this machine "
            "can see; on a cluster, one that every node can see, or an object store (s3://...)."
        )
    uri = place.uri_of(place.path)
    with clear_errors(uri):
        kind = place.store.get_file_info(place.path).type
    if kind == FileType.NotFound:
        raise SourceError(
            f"'{uri}' does not exist. Check bucket, prefix and archive_options "
            "(endpoint_override, region)."
        )
    if kind == FileType.File and names_a_stream(uri):
        raise SourceError(
            f"The name of an object must not end in # and a number, which is how a further video "
            f"stream is written. Got '{uri}'. Copy it to another name."
        )
    return bool(kind == FileType.Directory)


def _entries(folder: str) -> tuple[list[str], list[str], OSError | None]:
    """Return (names of files, names of folders to walk, what went wrong on the way)."""
    names, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        folders.append(entry.name)
                elif not (entry.is_symlink() and os.path.isdir(entry.path)):
                    names.append(entry.name)
    except OSError as error:
        return names, folders, error
    return names, folders, None


def _names_beside(path: str) -> list[str]:
    """Return the names of the files beside a video that was named itself."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder)
    except OSError:  # such a folder may be entered, but nobody knows what lies in it
        return []
    return files_beside(names, [name]).get(name, [])


def _inside(place: Location, folder: str, *, recursive: bool) -> list[FileInfo]:
    from pyarrow.fs import FileSelector

    assert place.store is not None
    with clear_errors(place.uri_of(folder)):
        found: list[FileInfo] = place.store.get_file_info(FileSelector(folder, recursive=recursive))
    return found
