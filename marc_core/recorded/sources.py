"""Which source says when a video was recorded, in one order:

    sidecar         recorded_at in clip.json beside it
    quicktime       com.apple.quicktime.creationdate: the start, with its zone (phones)
    creation_time   of the container: UTC; the start or the end, as `clock.container` says
    file_name       by `clock.file_names`
    mtime           the file's time of change, where `clock.mtime` or a watched folder asks for it

The first that says something plausible counts. What says something implausible (1904 and 1970 are
clocks that were never set) is passed over and said in the warnings.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from marc_core.filenames import canonical
from marc_core.recorded.names import compile_pattern
from marc_core.recorded.zones import in_zone, zone_of

if TYPE_CHECKING:
    from marc_core.recorded.config import ClockConfig
    from marc_core.types import VideoSource

SIDECAR, QUICKTIME, CREATION_TIME, FILE_NAME, MTIME = (
    "sidecar", "quicktime", "creation_time", "file_name", "mtime",
)  # fmt: skip
"""Values of `videos.recorded_source`."""
WARNING_PREFIX = "clock: "
"""How every warning about a clock begins, so that reading it again replaces only these."""
TAG_QUICKTIME, TAG_CREATION, TAG_ANDROID = (
    "com.apple.quicktime.creationdate", "creation_time", "com.android.version",
)  # fmt: skip
TAG_MTIME = "marc.mtime"
"""Kept with the metadata of a file from a watched folder: what its time of change means."""
TAGS = (TAG_QUICKTIME, TAG_CREATION, TAG_ANDROID)
"""Metadata of a container that its clock is read from."""
FIRST_YEAR = 1990
"""Earlier clocks of files were never set (our choice: cameras that make files are younger; 1904,
1970 and 1980 are where clocks without a battery begin)."""
_LONGEST = 100
"""Characters of a tag that are kept; a time has fewer."""
AHEAD = dt.timedelta(days=1)
"""Clocks further ahead of this machine's are wrong (our choice: any zone's wall clock that was
written down as UTC is below it)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """When a video's 0:00 was, who says so, and who said what cannot be."""

    at: dt.datetime | None = None
    source: str | None = None
    warnings: tuple[str, ...] = ()


def tags_of(*metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what a container's metadata says of its clock; a later mapping's word counts more."""
    found = {key.lower(): value for one in metadata for key, value in one.items()}
    return {name: found[name][:_LONGEST] for name in TAGS if found.get(name, "").strip()}


def find_recorded(
    source: VideoSource,
    *,
    sidecar: dt.datetime | None,
    tags: Mapping[str, str],
    duration_s: float,
    config: ClockConfig,
    now: dt.datetime | None = None,
) -> Recorded:
    """Return when a video was recorded, by the first source that says so.

    sidecar: what the file beside it says. tags: of the container, of `TAGS`, and TAG_MTIME.
    duration_s: of the video, for sources that name its end. now: with an offset; default: the
    present.
    """
    if sidecar is not None:
        return Recorded(at=sidecar, source=SIDECAR)
    now = now or dt.datetime.now(dt.UTC)
    length = dt.timedelta(seconds=duration_s)
    warnings: list[str] = []
    for said in _said(source, tags, config):
        try:
            at = said.read()
            _check_plausible(at, now)
        except (ValueError, OverflowError, OSError) as error:
            warnings.append(f"{WARNING_PREFIX}{said.by} '{said.text}' does not count: {error}.")
            continue
        start = at - length if said.is_end else at
        return Recorded(at=start, source=said.by, warnings=tuple(warnings))
    return Recorded(warnings=tuple(warnings))


class _Said(NamedTuple):
    """What one source says; `read` makes a moment of it, or raises ValueError."""

    by: str
    text: str
    read: Callable[[], dt.datetime]
    is_end: bool = False


def _said(source: VideoSource, tags: Mapping[str, str], config: ClockConfig) -> Iterator[_Said]:
    zone = zone_of(config.zone)
    if config.container != "ignore":
        if text := tags.get(TAG_QUICKTIME):
            yield _Said(QUICKTIME, text, partial(_iso, text, zone))
        if text := tags.get(TAG_CREATION):
            closed = config.container == "auto" and TAG_ANDROID in tags
            is_end = closed or config.container == "end"
            yield _Said(CREATION_TIME, text, partial(_iso, text, dt.UTC), is_end)
    address = canonical(source.file_uri)
    for text in config.file_names:
        pattern = compile_pattern(text, has_zone=zone is not None)
        if pattern.fits(address):
            name = address.rpartition("/")[2]
            yield _Said(FILE_NAME, name, partial(pattern.read, address, zone))
    mtime = config.mtime if config.mtime != "ignore" else tags.get(TAG_MTIME, "ignore")
    if mtime != "ignore" and source.version.isdigit():
        seconds = int(source.version) / 1e9
        read = partial(dt.datetime.fromtimestamp, seconds, dt.UTC)
        yield _Said(MTIME, f"{seconds:.0f} s", read, mtime == "end")


def _iso(text: str, zone: dt.tzinfo | None) -> dt.datetime:
    found = dt.datetime.fromisoformat(text.strip())
    if found.utcoffset() is not None:
        return found
    if zone is None:
        raise ValueError("it names no time zone (clock.zone says which)")
    return in_zone(found, zone)


def _check_plausible(at: dt.datetime, now: dt.datetime) -> None:
    if at.year < FIRST_YEAR:
        raise ValueError(f"it lies before {FIRST_YEAR}, so that clock was never set")
    if at > now + AHEAD:
        raise ValueError("it lies in the future")
