"""Moments as people write them.

2026-11-01T08:00+01:00   ISO 8601 with an offset from UTC
2h, 30m, 3d, 1w ago      so long before now; a day is 24 hours, a week seven of them
now
2026-11-01T08:00         a wall clock of `clock.zone`; refused where none is set
2026-11-01, today, yesterday, yesterday 18:30     of `clock.zone`, too; a day means its start
"""

from __future__ import annotations

import datetime as dt
import re

from marc_core.errors import AnswerError
from marc_core.recorded.zones import day_start, in_zone, zone_of

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])(?:\s+ago)?")
_DAY = re.compile(r"(today|yesterday|\d{4}-\d{2}-\d{2})(?:[ ]+(\d{1,2}:\d{2}(?::\d{2})?))?")
_EXAMPLES = (
    "2026-05-01T08:00:00+02:00, or 2h (so long ago), or, with clock.zone=Europe/Berlin, "
    "yesterday or 2026-05-01 08:00"
)


def parse_moment(
    name: str, value: str | dt.datetime, *, zone: str = "", now: dt.datetime | None = None
) -> dt.datetime:
    """Return the moment that somebody wrote.

    name: of the value, for errors. zone: `clock.zone`, in which a time without an offset is read;
    empty refuses it. now: what relative times count from, with an offset; default: the present.
    Raises AnswerError.
    """
    now = now or dt.datetime.now(dt.UTC)
    if isinstance(value, dt.datetime):
        return _placed(name, value, value, zone)
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "now":
        return now
    if found := _AGO.fullmatch(text.lower()):
        return _ago(name, value, float(found[1]) * _UNITS[found[2]], now)
    if found := _DAY.fullmatch(text.lower()):
        return _on_day(name, value, found[1], found[2], zone, now)
    try:
        return _placed(name, dt.datetime.fromisoformat(text.upper()), value, zone)
    except ValueError:
        raise _no_time(name, value) from None


def _ago(name: str, value: object, seconds: float, now: dt.datetime) -> dt.datetime:
    try:
        return now - dt.timedelta(seconds=seconds)
    except OverflowError:
        raise AnswerError(f"{name} must lie in the years 1 to 9999. Got '{value}'.") from None


def _on_day(
    name: str, value: object, day: str, time: str | None, zone: str, now: dt.datetime
) -> dt.datetime:
    place = zone_of(zone)
    if place is None:
        raise _zoneless(name, value)
    try:
        date = _date(day, now.astimezone(place).date())
        if time is None:
            return day_start(date, place)
        clock = dt.time.fromisoformat(time.zfill(len(time) + (time[1] == ":")))
    except (ValueError, OverflowError):
        raise _no_time(name, value) from None
    return _placed(name, dt.datetime.combine(date, clock), value, zone)


def _date(day: str, today: dt.date) -> dt.date:
    if day == "today":
        return today
    return today - dt.timedelta(days=1) if day == "yesterday" else dt.date.fromisoformat(day)


def _placed(name: str, found: dt.datetime, value: object, zone: str) -> dt.datetime:
    """Return a time with its own offset, or in the zone."""
    if found.utcoffset() is not None:
        return found
    place = zone_of(zone)
    if place is None:
        raise _zoneless(name, value)
    try:
        return in_zone(found, place)
    except ValueError as error:
        raise AnswerError(
            f"{name} must be one moment: {error}. Write its offset from UTC."
        ) from None


def _no_time(name: str, value: object) -> AnswerError:
    return AnswerError(f"{name} must be a time in ISO 8601, like {_EXAMPLES}. Got '{value}'.")


def _zoneless(name: str, value: object) -> AnswerError:
    return AnswerError(
        f"{name} must have an offset from UTC, like 2026-05-01T08:00:00+02:00 or ...Z, or "
        f"be so long ago, like 2h. Got '{value}': whose clock it is cannot be known. Set "
        "clock.zone=Europe/Berlin for that."
    )
