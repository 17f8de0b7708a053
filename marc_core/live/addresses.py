"""What people name as a source: its id, how it is read, and whether that is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from marc_core.errors import ConfigError, SourceError
from marc_core.live.config import SourceConfig

STORES = ("file", "s3", "gs", "gcs", "az", "abfs")
"""Schemes of folders and buckets (marc_core.video.source)."""
SOURCE_TAG = "source:"
"""How the tag of a video begins that names its source; the source's own tags follow it."""
_LISTENING = ("udp", "rtp", "srt", "tcp")
"""Schemes whose addresses need no host: packets come to a port of this machine."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[./~]")
"""How an address begins that is given a name."""
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
"""An address in the text of an error."""


def source_tags(tags: Sequence[str]) -> list[str]:
    """Return those tags of a video that are its source's, not of a file beside it."""
    first = next((i for i, tag in enumerate(tags) if tag.startswith(SOURCE_TAG)), len(tags))
    return list(tags[first:])


def split_name(argument: str, settings: Iterable[str]) -> tuple[str | None, str]:
    """Return (id or None, address) of `gate=rtsp://...` or an address alone.

    settings: names of top-level settings, which no id may be. Raises ConfigError for what is
    neither a source nor a setting.
    """
    name, equals, rest = argument.partition("=")
    if not equals or name in settings or any(mark in name for mark in "./?"):
        return None, argument
    _check_id(name)
    if not _ADDRESS.match(rest):
        raise ConfigError(
            f"'{name}' is no setting, and '{rest}' is no address. Settings are written "
            f"section.key=value, sources NAME=ADDRESS, folders among them {name}=./{rest}"
        )
    return name, rest


def id_of(address: str) -> str:
    """Return an id for an address that was not given one: host and path, without credentials."""
    parts = _split(address)
    text = f"{parts.hostname or ''}{parts.path}" if parts.scheme else os.path.abspath(address)
    stem = os.path.splitext(text)[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[-64:].strip("-") or "source"


def kind_of(source: SourceConfig) -> Literal["hls", "stream", "folder"]:
    """Return how a source is read."""
    if source.kind != "auto":
        return source.kind
    parts = _split(source.address)
    if "://" not in source.address or parts.scheme in STORES:
        return "folder"
    return "hls" if parts.path.lower().endswith((".m3u8", ".m3u")) else "stream"


def checked(source_id: str, source: SourceConfig, allow: Iterable[str]) -> SourceConfig:
    """Return the source with its camera. Raises ConfigError, SourceError."""
    _check_id(source_id)
    if not source.address:
        raise ConfigError(f"watch.sources.{source_id}.address must name a camera or a folder.")
    if kind_of(source) != "folder":
        check_allowed(source.address, allow)
    return replace(source, camera=source.camera or source_id)


def _check_id(source_id: str) -> None:
    if not _ID.fullmatch(source_id):
        raise ConfigError(
            f"Ids of sources have letters, digits, - and _, 64 at most. Got '{source_id}'."
        )


def check_allowed(address: str, allow: Iterable[str]) -> None:
    """Raise SourceError unless scheme and host of an address fit a pattern of `watch.allow`, and it
    names a host."""
    parts = _split(address)
    place = f"{parts.scheme}://{parts.hostname or ''}".lower()
    if not any(fnmatchcase(place, pattern.lower()) for pattern in allow):
        raise SourceError(
            f"watch.allow does not admit '{place}' (of {shown(address)}). It has: "
            f"{', '.join(allow)}."
        )
    if not (parts.hostname or parts.scheme in _LISTENING):
        raise SourceError(f"An address must name a host. Got '{shown(address)}'.")


def _split(address: str) -> SplitResult:
    """Return the parts of an address. Raises ConfigError for what is none, without repeating it:
    where its password ends nobody can say."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise ConfigError(
            "An address cannot be read. It is written scheme://user:password@host:port/path, with "
            "%40 for @ and %2F for / in a password."
        ) from None
    return parts


def shown(address: str) -> str:
    """Return an address without user, password and query, which may be secrets."""
    parts = urlsplit(address)
    if "://" not in address:
        return address
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def without_secrets(text: str, address: str) -> str:
    """Return the first line of a text, such as an error's, in which the source's address and all
    others (pieces of a playlist have tokens of their own) are `shown`."""
    first = (text.replace(address, shown(address)).splitlines() or [""])[0]
    text = _IN_TEXT.sub(_shown_in_text, first)
    secrets = urlsplit(address)
    for secret in (secrets.password, secrets.query):
        text = text.replace(secret, "***") if secret else text
    return text


def _shown_in_text(found: re.Match[str]) -> str:
    try:
        return shown(found[0])
    except ValueError:  # it only looks like an address
        return "***"
