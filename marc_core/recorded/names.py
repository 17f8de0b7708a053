"""Times in the names of files, by patterns like those of strptime."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from marc_core.errors import ConfigError
from marc_core.recorded.zones import in_zone

_DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{2}", "d": r"\d{2}", "j": r"\d{3}", "H": r"\d{2}",
    "M": r"\d{2}", "S": r"\d{2}", "f": r"\d{1,9}", "z": r"Z|[+-]\d{2}:?\d{2}", "s": r"\d{9,10}",
}  # fmt: skip
_WHOLE = ({"Y", "m", "d", "H"}, {"y", "m", "d", "H"}, {"Y", "j", "H"}, {"y", "j", "H"}, {"s"})
"""Directives of which one set must be there: a day alone is no moment."""


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A compiled pattern. depth: components of an address that it is compared with."""

    text: str
    regex: re.Pattern[str]
    depth: int

    def fits(self, address: str) -> bool:
        """Return whether the end of an address looks like the pattern."""
        return self._match(address) is not None

    def read(self, address: str, zone: dt.tzinfo | None) -> dt.datetime:
        """Return the moment that an address that fits says.

        Raises ValueError where it is no time, two times, or none that is one moment in the zone.
        """
        found = self._match(address)
        assert found is not None, "asked of an address that fits"
        values: dict[str, str] = {}
        for group, value in found.groupdict().items():
            if values.setdefault(group[0], value) != value:
                raise ValueError(f"%{group[0]} is both {values[group[0]]} and {value}")
        return _moment_of(values, zone)

    def _match(self, address: str) -> re.Match[str] | None:
        parts = address.split("/")[-self.depth :]
        stem, dot, _ = parts[-1].rpartition(".")
        parts[-1] = stem if dot and stem else parts[-1]
        return self.regex.fullmatch("/".join(parts))


@lru_cache(maxsize=256)
def compile_pattern(text: str, *, has_zone: bool) -> NamePattern:
    """Return a pattern of `clock.file_names`. Raises ConfigError for one that gives no moment."""
    parts: list[str] = []
    used: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "%" and text[at + 1 : at + 2] in (*_DIRECTIVES, "%"):
            letter = text[at + 1]
            at += 2
            if letter == "%":
                parts.append("%")
                continue
            parts.append(f"(?P<{letter}{len(used)}>{_DIRECTIVES[letter]})")
            used.append(letter)
            continue
        if text[at] == "%":
            known = " ".join(f"%{letter}" for letter in _DIRECTIVES)
            raise ConfigError(
                f"clock.file_names may hold {known}, %% and *. Got '{text[at : at + 2]}' in "
                f"'{text}'."
            )
        parts.append("[^/]*" if text[at] == "*" else re.escape(text[at]))
        at += 1
    _check(text, set(used), has_zone)
    return NamePattern(text, re.compile("".join(parts)), text.count("/") + 1)


def _check(text: str, used: set[str], has_zone: bool) -> None:
    if not any(needed <= used for needed in _WHOLE):
        raise ConfigError(
            "clock.file_names must name day and hour, as %Y%m%d and %H, or seconds since 1970, as "
            f"%s. Got '{text}'."
        )
    if not has_zone and not used & {"z", "s"}:
        raise ConfigError(
            f"clock.file_names '{text}' names no time zone (%z), so clock.zone must say whose "
            "clock such names show: clock.zone=Europe/Berlin."
        )


def _moment_of(values: Mapping[str, str], zone: dt.tzinfo | None) -> dt.datetime:
    fraction = dt.timedelta(microseconds=int(values.get("f", "0")[:6].ljust(6, "0")))
    if "s" in values:
        return dt.datetime.fromtimestamp(int(values["s"]), dt.UTC) + fraction
    year = int(values["Y"]) if "Y" in values else 2000 + int(values["y"])
    hour, minute, second = (int(values.get(name, "0")) for name in "HMS")
    if "j" in values and "d" not in values:
        day = dt.date(year, 1, 1) + dt.timedelta(days=int(values["j"]) - 1)
        if day.year != year:
            raise ValueError(f"day {values['j']} is not in the year {year}")
    else:
        day = dt.date(year, int(values["m"]), int(values["d"]))
    wall = dt.datetime.combine(day, dt.time(hour, minute, second)) + fraction
    if "z" in values:
        return dt.datetime.fromisoformat(f"{wall.isoformat()}{values['z']}")
    assert zone is not None, "a pattern without a zone is refused by ClockConfig"
    return in_zone(wall, zone)
