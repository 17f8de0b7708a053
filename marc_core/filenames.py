"""Names of files: how they become addresses, and which of them look like videos.

A path is its own address wherever people can read it on one line. Bytes that are not UTF-8, control
characters, and an end that reads like the number of a video stream (clip#1) are percent-encoded:
file:///videos/caf%E9.mp4. Both forms are accepted, and each leads back to the same bytes.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote_to_bytes

VIDEO_ENDINGS = (
    "mp4", "m4v", "mov", "qt", "mkv", "mk3d", "webm", "avi", "divx", "mpg", "mpeg", "mpe", "mpv",
    "m1v", "m2v", "ts", "m2ts", "m2t", "mts", "tp", "trp", "vob", "evo", "dvd", "mod", "tod",
    "flv", "f4v", "wmv", "asf", "wm", "dvr-ms", "wtv", "ismv", "3gp", "3gpp", "3g2", "ogv", "ogm",
    "gif", "apng", "mxf", "gxf", "dv", "dif", "rm", "rmvb", "nut", "ivf", "obu", "264", "h264",
    "avc", "265", "h265", "hevc", "h261", "h263", "y4m", "amv", "swf", "roq", "dav", "insv", "360",
    "av1", "mjpeg", "mjpg", "mj2", "psp", "h26l", "266", "h266", "vvc", "vc1", "vc2", "drc", "cavs",
    "dnxhd", "dnxhr", "nsv", "nuv", "pva", "ty",
)  # fmt: skip
"""Endings of files that the decoder opens, cameras' own ones among them."""

_OTHER_VIDEO = frozenset({
    "lrv", "bik", "bk2", "smk", "r3d", "braw", "crm", "viv", "vivo", "flc", "fli", "xvid", "vid",
    "ogx", "m4p", "movie",
})  # fmt: skip
"""Further endings that people give to videos: proxies, games' and raw cameras' formats."""

_UNFINISHED = frozenset({"part", "crdownload", "download", "filepart", "tmp", "bak", "old"})
"""Endings that are put behind a video's own one."""

_STREAM_END = re.compile(r"#([1-9]\d*)$")
_UNPRINTABLE = "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]"
_ENCODED = re.compile(f"{_UNPRINTABLE}|{_STREAM_END.pattern}")
_STORES = {"gcs": "gs", "abfs": "az"}
"""Schemes that are two names of one kind of store."""


def uri_of_path(path: str) -> str:
    """Return the address of a local path: printable, on one line, and reversible."""
    if _ENCODED.search(path):
        return "file://" + quote(os.fsencode(path))
    return path


def stream_of(uri: str) -> int:
    """Return the number of the video stream that an address ends with; 0 for a file's first."""
    found = _STREAM_END.search(uri)
    return int(found.group(1)) if found else 0


def names_a_stream(uri: str) -> bool:
    """Return whether an address ends with the number of a video stream."""
    return stream_of(uri) > 0


def path_of_file_uri(rest: str) -> str:
    """Return the path that stands behind `file://`."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(rest)))


def canonical(address: str) -> str:
    """Return one text for every way to write an address, to compare it by; not to open it by.

    A local path, decoded and without `.`, `..` and doubled or trailing slashes; a store's address
    without a trailing slash and under one scheme. `/` and the empty address become empty.
    """
    scheme, found, rest = address.partition("://")
    if found and scheme != "file":
        return f"{_STORES.get(scheme, scheme)}://{rest.rstrip('/')}"
    path = path_of_file_uri(rest) if found else address
    # POSIX gives two leading slashes a meaning of their own; file systems do not.
    return re.sub("^//+", "/", os.path.normpath(path)).rstrip("/") if path else ""


def file_names(address: str) -> tuple[str, ...]:
    """Return the last component of an address, as written and decoded."""
    return tuple(a.rstrip("/").rpartition("/")[2] for a in (address, canonical(address)))


def is_below(address: str, folder: str) -> bool:
    """Return whether an address is `folder` or lies below it; both as `canonical` gives them."""
    return address == folder or address.startswith(f"{folder}/")


def spellings(address: str) -> tuple[str, ...]:
    """Return every way in which a memory may write a file or folder, without a trailing slash."""
    place = canonical(address)
    scheme, found, rest = place.partition("://")
    if found:
        others = [other for other, same in _STORES.items() if same == scheme]
        return (place, *(f"{other}://{rest}" for other in others))
    encoded = "file://" + quote(os.fsencode(place))
    return (encoded,) if re.search(_UNPRINTABLE, place) else (place, encoded)


def shown(path: object) -> str:
    """Return a path for a message: as an address, or where it is none, with escapes."""
    return uri_of_path(os.fspath(path)) if isinstance(path, str | os.PathLike) else str(path)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a name is meant by one of `patterns` (case-insensitive); hidden ones never."""
    lowered = [pattern.lower() for pattern in patterns]
    plain = {p[2:] for p in lowered if re.fullmatch(r"\*\.[^*?\[.]+", p)}
    rest = [fnmatch.translate(p) for p in lowered if p[2:] not in plain or not p.startswith("*.")]
    other = re.compile("|".join(rest)) if rest else None

    def matches(name: str) -> bool:
        if name.startswith("."):
            return False
        name = name.lower()
        _, dot, ending = name.rpartition(".")
        return (dot == "." and ending in plain) or (other is not None and bool(other.match(name)))

    return matches


def looks_like_video(name: str) -> bool:
    """Return whether a name's ending is a video's, unfinished downloads and copies included."""
    stem, _, ending = name.lower().rpartition(".")
    if ending in _UNFINISHED:
        stem, _, ending = stem.rpartition(".")
    return stem not in ("", ".") and not name.startswith(".") and ending in _LIKE_VIDEO


_LIKE_VIDEO = _OTHER_VIDEO | frozenset(VIDEO_ENDINGS)
