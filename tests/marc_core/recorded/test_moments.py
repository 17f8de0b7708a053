"""Moments as people write them: read exactly, or refused."""

from __future__ import annotations

import datetime as dt

import pytest

from marc_core.errors import AnswerError, ConfigError
from marc_core.recorded.moments import parse_moment
from marc_core.recorded.zones import zone_of

NOW = dt.datetime(2026, 11, 2, 0, 30, tzinfo=dt.UTC)
BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-01T08:00+01:00", "2026-11-01T07:00"),
        ("2026-11-01T08:00Z", "2026-11-01T08:00"),
        ("2026-11-01t08:00z", "2026-11-01T08:00"),
        ("now", "2026-11-02T00:30"),
        ("90s", "2026-11-02T00:28:30"),
        ("2h", "2026-11-01T22:30"),
        ("1.5h ago", "2026-11-01T23:00"),
        ("3d", "2026-10-30T00:30"),
        ("1 w", "2026-10-26T00:30"),
    ],
)
def test_times_that_need_no_zone(text: str, utc: str) -> None:
    expected = dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    for zone in ("", BERLIN):
        assert parse_moment("since", text, zone=zone, now=NOW) == expected


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("2026-11-01T08:00", "2026-11-01T08:00+01:00"),
        ("2026-07-01 08:00", "2026-07-01T08:00+02:00"),
        ("2026-07-01", "2026-07-01T00:00+02:00"),
        ("today", "2026-11-02T00:00+01:00"),  # half past one in Berlin
        ("yesterday", "2026-11-01T00:00+01:00"),
        ("Yesterday 18:30", "2026-11-01T18:30+01:00"),
        ("2026-10-25", "2026-10-25T00:00+02:00"),  # clocks are put back later on this day
        ("2026-10-25 9:05:07", "2026-10-25T09:05:07+01:00"),
    ],
)
def test_times_of_a_zone_are_refused_without_one(text: str, local: str) -> None:
    assert parse_moment("until", text, zone=BERLIN, now=NOW) == dt.datetime.fromisoformat(local)
    with pytest.raises(AnswerError, match=r"until must have an offset from UTC.*clock\.zone"):
        parse_moment("until", text, now=NOW)


def test_today_is_that_of_the_zone() -> None:
    found = parse_moment("since", "today", zone="America/New_York", now=NOW)
    assert found == dt.datetime.fromisoformat("2026-11-01T00:00-04:00")


@pytest.mark.parametrize(
    ("text", "why"),
    [("2026-10-25T02:30", "happens twice"), ("2026-03-29T02:30", "does not exist")],
)
def test_an_hour_that_is_two_or_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(AnswerError, match=rf"{why} in Europe/Berlin.*Write its offset"):
        parse_moment("since", text, zone=BERLIN, now=NOW)
    assert parse_moment("since", text, zone="UTC", now=NOW).utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "8", "08:00", "2h30m", "-2h", "2026-13-01", "today 25:00", "yesterday 8",
     "tomorrow", "2026-02-30", "99999999999w"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(AnswerError, match="since must"):
        parse_moment("since", text, zone=BERLIN, now=NOW)


def test_a_datetime_is_taken_as_it_is_or_read_in_the_zone() -> None:
    naive = dt.datetime(2026, 7, 1, 8)
    assert parse_moment("since", NOW) == NOW
    assert parse_moment("since", naive, zone="+05:30").isoformat() == "2026-07-01T08:00:00+05:30"
    with pytest.raises(AnswerError, match="whose clock"):
        parse_moment("since", naive)


@pytest.mark.parametrize("name", ["Berlin", "+25:00", "../etc/passwd", "CEST", "/etc/localtime"])
def test_unknown_zones_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"clock\.zone must be a zone of the IANA database"):
        zone_of(name)


def test_a_midnight_that_does_not_exist_begins_at_one() -> None:
    found = parse_moment("since", "2026-04-24", zone="Africa/Cairo", now=NOW)
    assert found.isoformat() == "2026-04-24T01:00:00+03:00"
