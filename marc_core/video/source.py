"""Archives: where a video lies, and a local path for it.

Plain paths and file:// are read where they lie. s3://, gs:// (gcs://) and az:// (abfs://) go
through pyarrow's file systems; a video from there is fetched to a temporary file, because
containers keep their index at either end and decoders jump.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any

from marc_core.errors import SourceError
from marc_core.filenames import path_of_file_uri, uri_of_path
from marc_core.types import SidecarFile, VideoSource

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNREADABLE = "unreadable: "
"""How the version of a folder begins that could not be listed; the reason follows."""
_NO_FILE = "no file: "
"""How the version of a sidecar begins that is no file; what it is follows."""
_FETCH_BYTES = 8 << 20
"""Read at a time when a video is fetched (our choice)."""

_TEXT, _FLAG, _NUMBER = str, "flag", float
_SHARED_S3 = {
    "access_key": _TEXT, "secret_key": _TEXT, "session_token": _TEXT, "anonymous": _FLAG,
    "region": _TEXT, "scheme": _TEXT, "endpoint_override": _TEXT, "role_arn": _TEXT,
    "session_name": _TEXT, "external_id": _TEXT, "connect_timeout": _NUMBER,
    "request_timeout": _NUMBER, "force_virtual_addressing": _FLAG, "tls_ca_file_path": _TEXT,
}  # fmt: skip
_GCS = {
    "access_token": _TEXT, "anonymous": _FLAG, "scheme": _TEXT, "endpoint_override": _TEXT,
    "project_id": _TEXT, "target_service_account": _TEXT,
}  # fmt: skip
_AZURE = {
    "account_name": _TEXT, "account_key": _TEXT, "sas_token": _TEXT, "blob_storage_scheme": _TEXT,
    "blob_storage_authority": _TEXT, "dfs_storage_scheme": _TEXT, "dfs_storage_authority": _TEXT,
    "tenant_id": _TEXT, "client_id": _TEXT, "client_secret": _TEXT,
}  # fmt: skip
_STORES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "s3": ("S3FileSystem", _SHARED_S3),
    "gs": ("GcsFileSystem", _GCS),
    "gcs": ("GcsFileSystem", _GCS),
    "az": ("AzureFileSystem", _AZURE),
    "abfs": ("AzureFileSystem", _AZURE),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """A place in a file system. `scheme` is empty for local paths, whose `store` is None."""

    scheme: str
    path: str
    store: FileSystem | None

    def uri_of(self, path: str) -> str:
        """Return the address of `path` in this place's file system."""
        return f"{self.scheme}://{path}" if self.scheme else uri_of_path(path)


def locate(uri: str, options: Mapping[str, str]) -> Location:
    """Return the file system and path of `uri`.

    Raises SourceError for a scheme that is not allowed and for options that the store does not
    know or refuses.
    """
    if not _ADDRESS.match(uri):
        return Location(scheme="", path=os.path.abspath(os.path.expanduser(uri)), store=None)
    scheme, rest = uri.split("://", 1)
    if scheme == "file":
        return Location(scheme="", path=os.path.abspath(_file_path(uri, rest)), store=None)
    if scheme not in _STORES:
        known = ", ".join(f"{name}://" for name in ("file", *_STORES))
        raise SourceError(f"Archives are local paths or {known}. Got '{uri}'.")
    path = rest.strip("/")
    if not path:
        raise SourceError(f"'{uri}' names no bucket. Write {scheme}://bucket/folder.")
    return Location(scheme=scheme, path=path, store=_open_store(scheme, options))


def _file_path(uri: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise SourceError(f"A file:// address has three slashes and no host. Got '{uri}'.")
    return path_of_file_uri(slash + path)


def _open_store(scheme: str, options: Mapping[str, str]) -> FileSystem:
    from pyarrow import fs

    class_name, known = _STORES[scheme]
    if not hasattr(fs, class_name):
        raise SourceError(f"This pyarrow was built without {class_name}, needed for {scheme}://.")
    try:
        return getattr(fs, class_name)(**_typed_options(scheme, options, known))
    except (ValueError, OSError) as error:
        raise SourceError(
            f"{scheme}:// cannot be opened with archive_options {sorted(options)}: {error}"
        ) from error


def _typed_options(
    scheme: str, options: Mapping[str, str], known: Mapping[str, Any]
) -> dict[str, Any]:
    typed: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise SourceError(
                f"archive_options of {scheme}:// are: {', '.join(known)}. Got '{name}'."
            )
        if known[name] == _FLAG:
            if value.lower() not in ("true", "false"):
                raise SourceError(f"archive_options.{name} is true or false. Got '{value}'.")
            typed[name] = value.lower() == "true"
        else:
            typed[name] = known[name](value)
    return typed


def local_source(path: str, beside: Iterable[str] = ()) -> VideoSource:
    """Return the source at a local path, with the files `beside` it (names in its folder)."""
    try:
        stat = os.stat(path)
    except OSError:  # a link that leads nowhere: listed, so that it ends as a failure row
        return make_source(uri_of_path(path), 0, "missing")
    sidecars = [f for n in beside for f in _local_sidecar(os.path.join(os.path.dirname(path), n))]
    return make_source(uri_of_path(path), stat.st_size, str(stat.st_mtime_ns), sidecars)


def _local_sidecar(path: str) -> Iterator[SidecarFile]:
    """Yield the file at `path`, or nothing when it went away meanwhile.

    What is no file has what it is in place of a version, and is never opened: a pipe would hang.
    """
    try:
        stat = os.stat(path)
    except OSError:
        if os.path.lexists(path):
            yield SidecarFile(uri_of_path(path), 0, f"{_NO_FILE}a link that leads nowhere")
        return
    if S_ISREG(stat.st_mode):
        yield SidecarFile(uri_of_path(path), stat.st_size, str(stat.st_mtime_ns))
    else:
        kind = "a folder" if S_ISDIR(stat.st_mode) else "a pipe, socket or device"
        yield SidecarFile(uri_of_path(path), 0, f"{_NO_FILE}{kind}")


def no_file(sidecar: SidecarFile) -> str | None:
    """Return what a sidecar is that is no file, such as "a folder"; None for a file."""
    found = sidecar.version.startswith(_NO_FILE)
    return sidecar.version.removeprefix(_NO_FILE) if found else None


def store_source(place: Location, info: FileInfo, beside: Iterable[FileInfo] = ()) -> VideoSource:
    """Return the source of an object, with the objects `beside` it."""
    sidecars = [
        SidecarFile(place.uri_of(file.path), int(file.size or 0), str(file.mtime_ns))
        for file in beside
    ]
    return make_source(place.uri_of(info.path), int(info.size or 0), str(info.mtime_ns), sidecars)


def unreadable_folder(uri: str, reason: str) -> VideoSource:
    """Return the source that stands for a folder that cannot be listed; reading it says why."""
    return make_source(f"{uri.rstrip('/')}/", 0, f"{_UNREADABLE}{reason}")


def is_unreadable(source: VideoSource) -> bool:
    """Return whether a source stands for a folder that could not be listed."""
    return source.version.startswith(_UNREADABLE)


def make_source(
    uri: str, size_bytes: int, version: str, sidecars: Iterable[SidecarFile] = ()
) -> VideoSource:
    """Return a source with its id."""
    from marc_core.schemas import make_video_id

    return VideoSource(
        video_id=make_video_id(uri, size_bytes, version),
        uri=uri,
        size_bytes=size_bytes,
        version=version,
        sidecars=tuple(sidecars),
    )


def stream_source(source: VideoSource, stream: int) -> VideoSource:
    """Return the source of another video stream of the same file."""
    uri = f"{source.file_uri}#{stream}" if stream else source.file_uri
    made = make_source(uri, source.size_bytes, source.version, source.sidecars)
    return replace(made, stream=stream)


@contextlib.contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Turn what a file system raises into a SourceError about `uri`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SourceError(
            f"'{uri}' cannot be read: {error}. Check the credentials and archive_options."
        ) from error


@contextlib.contextmanager
def local_copy(source: VideoSource, options: Mapping[str, str]) -> Iterator[str]:
    """Yield a local path of `source`; a file fetched from a store is deleted afterwards.

    Raises SourceError when the source is gone, cannot be read, or has changed since it was
    listed (its size or time of change differs).
    """
    place = find(source, options)
    if place.store is None:
        check_local(source, place)
        yield place.path
        return
    suffix = os.path.splitext(place.path)[1]
    with tempfile.NamedTemporaryFile(prefix="marc-", suffix=suffix) as copy:
        fetch(source, place, copy)
        yield copy.name


def find(source: VideoSource, options: Mapping[str, str]) -> Location:
    """Return where a source lies. Raises SourceError for a folder that could not be listed."""
    if is_unreadable(source):
        raise SourceError(
            f"Folder '{source.uri}' cannot be listed: {source.version.removeprefix(_UNREADABLE)}. "
            "Give this user the right to list it, or name the folders that it may read."
        )
    return locate(source.file_uri, options)


def check_local(source: VideoSource, place: Location) -> None:
    """Raise SourceError where a file of this machine is not what was listed, or cannot be read."""
    _check_unchanged(source, local_source(place.path))
    _check_readable(place.path)


def fetch(source: VideoSource, place: Location, copy: Any) -> None:
    """Write what lies in an object store to `copy`. Raises SourceError as `local_copy`."""
    assert place.store is not None
    with clear_errors(source.uri):
        info = place.store.get_file_info(place.path)
    _check_unchanged(source, store_source(place, info))
    with clear_errors(source.uri):
        _fetch(place.store, place.path, copy)
    if copy.tell() != source.size_bytes:
        raise SourceError(
            f"'{source.uri}' ended after {copy.tell()} of {source.size_bytes} bytes. Index "
            "it again."
        )


def _check_readable(path: str) -> None:
    """Raise SourceError for a file that cannot even be opened: its rights or its disk are at
    fault, not its content, and a later run may meet it mended. A pipe would keep us waiting."""
    if not os.path.isfile(path):
        return
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise SourceError(
            f"'{path}' cannot be read: {error.strerror}. Give this user the right to read "
            "it, or look after its disk; the next run tries it again."
        ) from error


def _check_unchanged(listed: VideoSource, now: VideoSource) -> None:
    if now.version in ("missing", "None"):
        raise SourceError(f"'{listed.uri}' no longer exists. Index the archive again.")
    if (now.size_bytes, now.version) != (listed.size_bytes, listed.version):
        raise SourceError(
            f"'{listed.uri}' has changed since it was listed ({listed.size_bytes} bytes then, "
            f"{now.size_bytes} now). Index the archive again once it is written completely."
        )


def _fetch(store: FileSystem, path: str, copy: Any) -> None:
    with store.open_input_stream(path, compression=None) as stream:
        while data := stream.read(_FETCH_BYTES):
            copy.write(data)
    copy.flush()


def read_small_files(
    uris: Iterable[str], options: Mapping[str, str], max_bytes: int
) -> dict[str, bytes]:
    """Return the contents of those of `uris` that exist. All lie in one file system.

    Raises SourceError for a file that cannot be read or is larger than `max_bytes`.
    """
    contents: dict[str, bytes] = {}
    store: FileSystem | None = None
    for uri in uris:
        if not _ADDRESS.match(uri) or uri.startswith("file://"):
            data = _read_local(locate(uri, {}).path, uri, max_bytes)
        else:
            if store is None:
                store = locate(uri, options).store
            assert store is not None
            data = _read_if_there(store, uri.split("://", 1)[1].strip("/"), uri, max_bytes)
        if data is not None:
            contents[uri] = data
    return contents


def _read_local(path: str, uri: str, max_bytes: int) -> bytes | None:
    if not os.path.isfile(path):
        return None
    try:
        _check_size(uri, os.path.getsize(path), max_bytes)
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise SourceError(
            f"'{uri}' cannot be read: {error.strerror}. Give this user the right to read it."
        ) from error
    _check_size(uri, len(data), max_bytes)
    return data


def _check_size(uri: str, size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise SourceError(f"'{uri}' must have at most {max_bytes} bytes. Got {size_bytes}.")


def _read_if_there(store: FileSystem, path: str, uri: str, max_bytes: int) -> bytes | None:
    from pyarrow.fs import FileType

    with clear_errors(uri):
        info = store.get_file_info(path)
        if info.type != FileType.File:
            return None
        _check_size(uri, info.size, max_bytes)
        with store.open_input_stream(path, compression=None) as stream:
            data: bytes = stream.read()
            return data
