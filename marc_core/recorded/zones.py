"""Time zones, and wall-clock times in them that are never guessed."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marc_core.errors import ConfigError

_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")


@lru_cache(maxsize=64)
def zone_of(name: str) -> dt.tzinfo | None:
    """Return the zone of `clock.zone`; None where it is empty. Raises ConfigError."""
    if not name:
        return None
    if name.upper() in ("UTC", "Z"):
        return dt.UTC
    if found := _OFFSET.fullmatch(name):
        sign, hours, minutes = found.groups()
        if int(hours) < 24 and int(minutes) < 60:
            offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
            return dt.timezone(offset if sign == "+" else -offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            "clock.zone must be a zone of the IANA database like Europe/Berlin, UTC, or an offset "
            f"like +01:00. Got '{name}'."
        ) from None


def in_zone(naive: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """Return a wall-clock time of a zone as a moment.

    Raises ValueError, with the reason as its text, for a time that happens twice there when
    clocks are put back, or not at all when they are put forward.
    """
    first, second = (naive.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    back = first.astimezone(dt.UTC).astimezone(zone).replace(tzinfo=None)
    how = "happens twice" if back == naive else "does not exist"
    raise ValueError(f"{naive.isoformat(' ')} {how} in {zone}, where clocks are changed then")


def day_start(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Return the first moment of a day in a zone, also where clocks are changed at midnight."""
    midnight = dt.datetime.combine(day, dt.time(), zone)
    return midnight.astimezone(dt.UTC).astimezone(zone)
