"""The section `clock` of every configuration: whose word counts for the time of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from marc_core.recorded.names import compile_pattern
from marc_core.recorded.zones import zone_of


@dataclass(frozen=True, kw_only=True)
class ClockConfig:
    """The wall clock of recordings: a file beside the video, then its container, then its name,
    then its time of change; the first that says something plausible counts."""

    zone: str = ""
    """Where times that name no zone were written: `Europe/Berlin`, `UTC` or `+01:00`. Holds for
    files beside videos, names of files, and times of questions; empty refuses such times."""
    container: Literal["auto", "start", "end", "ignore"] = "auto"
    """What the container's creation_time means: the recording's start or its end. auto: its end
    where Android wrote the file (it writes the header last), else its start. Apple's creationdate
    is always the start and comes first. ignore: neither counts."""
    file_names: tuple[str, ...] = ()
    """Patterns of names that say when a recording began, without the ending, such as
    `cam*_%Y%m%d-%H%M%S` or `%Y/%m/%d/%H.%M.%S%z` (with the folders above). %Y %y %m %d %j %H %M
    %S, %f digits of a second, %z an offset or Z, %s seconds since 1970, * anything. Without %z and
    %s, `zone` is needed."""
    mtime: Literal["ignore", "start", "end"] = "ignore"
    """What the file's time of change means. Copies often get a new one, so it counts only where
    it is asked for."""

    @property
    def reads_addresses(self) -> bool:
        """Whether where a file lies, or when it was written there, says something of its clock."""
        return bool(self.file_names) or self.mtime != "ignore"

    def __post_init__(self) -> None:
        """Raise ConfigError for an unknown zone and for a pattern that gives no moment."""
        zone = zone_of(self.zone)
        for pattern in self.file_names:
            compile_pattern(pattern, has_zone=zone is not None)
