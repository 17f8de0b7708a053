"""When a video was recorded: the first source that says something plausible."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.errors import ConfigError
from marc_core.recorded.config import ClockConfig
from marc_core.recorded.sources import (
    TAG_ANDROID,
    TAG_CREATION,
    TAG_MTIME,
    TAG_QUICKTIME,
    find_recorded,
)
from marc_core.video.source import make_source

NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
SIDECAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TAGS = {TAG_QUICKTIME: "2026-02-01T10:00:00+0100", TAG_CREATION: "2026-03-01T10:00:00.000000Z"}
NAMED = ClockConfig(file_names=("cam_%Y%m%d-%H%M%S",), zone="Europe/Berlin", mtime="end")
MTIME = dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC)
ADDRESS = "/videos/cam_20260401-100000.mp4"


def found(
    address: str = ADDRESS,
    *,
    sidecar: dt.datetime | None = None,
    tags: dict[str, str] | None = None,
    config: ClockConfig = NAMED,
) -> tuple[str | None, str | None, list[str]]:
    source = make_source(address, 1, str(int(MTIME.timestamp() * 1e9)))
    recorded = find_recorded(
        source, sidecar=sidecar, tags=tags or {}, duration_s=60.0, config=config, now=NOW
    )
    at = recorded.at and recorded.at.astimezone(dt.UTC).isoformat()
    return recorded.source, at, list(recorded.warnings)


def test_the_order_of_sources() -> None:
    assert found(sidecar=SIDECAR, tags=TAGS) == ("sidecar", "2026-01-01T00:00:00+00:00", [])
    assert found(tags=TAGS) == ("quicktime", "2026-02-01T09:00:00+00:00", [])
    created = {TAG_CREATION: TAGS[TAG_CREATION]}
    assert found(tags=created) == ("creation_time", "2026-03-01T10:00:00+00:00", [])
    assert found() == ("file_name", "2026-04-01T08:00:00+00:00", [])
    assert found("/videos/a.mp4") == ("mtime", "2026-05-01T09:59:00+00:00", [])
    assert found("/videos/a.mp4", config=ClockConfig()) == (None, None, [])


def test_the_time_of_change_of_a_watched_folders_file_counts_last() -> None:
    watched = {TAG_MTIME: "end"}
    end = ("mtime", "2026-05-01T09:59:00+00:00", [])
    assert found("/videos/a.mp4", tags=watched, config=ClockConfig()) == end
    assert found(tags=watched) == ("file_name", "2026-04-01T08:00:00+00:00", [])
    assert found(tags=watched | TAGS)[0] == "quicktime"
    start = ClockConfig(mtime="start")
    assert found(tags=watched, config=start) == ("mtime", "2026-05-01T10:00:00+00:00", [])


@pytest.mark.parametrize(
    ("container", "tags", "utc"),
    [
        ("auto", {}, "2026-03-01T10:00:00+00:00"),
        ("auto", {TAG_ANDROID: "14"}, "2026-03-01T09:59:00+00:00"),
        ("start", {TAG_ANDROID: "14"}, "2026-03-01T10:00:00+00:00"),
        ("end", {}, "2026-03-01T09:59:00+00:00"),
        ("ignore", {TAG_QUICKTIME: TAGS[TAG_QUICKTIME]}, None),
    ],
)
def test_a_containers_time_is_the_start_or_the_end(
    container: Any, tags: dict[str, str], utc: str | None
) -> None:
    said = {TAG_CREATION: TAGS[TAG_CREATION], **tags}
    assert found("/a.mp4", tags=said, config=ClockConfig(container=container))[1] == utc


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("1904-01-01T00:00:00.000000Z", "clock was never set"),
        ("1970-01-01T00:00:00Z", "clock was never set"),
        ("1980-01-01T00:00:00Z", "clock was never set"),
        ("2026-11-28T00:00:00Z", "in the future"),
        ("last summer", "Invalid isoformat"),
    ],
)
def test_what_cannot_be_is_said_and_the_next_source_counts(value: str, why: str) -> None:
    source, _, (warning,) = found(tags={TAG_CREATION: value})
    assert source == "file_name"
    assert warning.startswith(f"clock: creation_time '{value}' does not count: ")
    assert why in warning


def test_apples_time_without_a_zone_needs_the_configured_one() -> None:
    tags = {TAG_QUICKTIME: "2026-07-01T10:00:00"}
    assert found("/a.mp4", tags=tags)[:2] == ("quicktime", "2026-07-01T08:00:00+00:00")
    source, _, (warning,) = found("/a.mp4", tags=tags, config=ClockConfig())
    assert source is None
    assert "names no time zone (clock.zone says which)" in warning


@pytest.mark.parametrize(
    ("pattern", "address", "utc"),
    [
        ("%Y%m%d_%H%M%S", "/v/20260701_100000.mp4", "2026-07-01T08:00:00"),
        ("PXL_%Y%m%d_%H%M%S%f*", "s3://b/PXL_20260701_100000123.TS.mp4", "2026-07-01T08:00:00.123"),
        ("*_%s", "/v/gate 3_1782900000.mkv", "2026-07-01T10:00:00"),
        ("%Y-%m-%dT%H.%M%z", "/v/2026-07-01T10.00-0500.ts", "2026-07-01T15:00:00"),
        ("%Y-%m-%dT%H%z", "/v/2026-07-01T10Z.ts", "2026-07-01T10:00:00"),
        ("%Y/%m/%d/*/%H.%M.%S", "/v/2026/07/01/gate/10.00.05.mp4", "2026-07-01T08:00:05"),
        ("%y%j-%H", "/v/26182-10.mp4", "2026-07-01T08:00:00"),
        ("100%%_%Y%m%d%H%M", "/v/100%_202607011000", "2026-07-01T08:00:00"),
        ("%Y/%Y%m%d%H", "/v/2026/2026070110.mp4", "2026-07-01T08:00:00"),
    ],
)
def test_patterns_of_names(pattern: str, address: str, utc: str) -> None:
    config = ClockConfig(file_names=("nothing%s", pattern), zone="Europe/Berlin")
    source, at, warnings = found(address, config=config)
    assert (source, warnings) == ("file_name", [])
    assert dt.datetime.fromisoformat(at or "") == dt.datetime.fromisoformat(f"{utc}+00:00")


@pytest.mark.parametrize(
    ("pattern", "address", "why"),
    [
        ("%Y%m%d%H", "/v/2026023010.mp4", "day"),
        ("%Y%m%d%H", "/v/2026102502.mp4", "happens twice in Europe/Berlin"),
        ("%Y%m%d%H", "/v/1970010100.mp4", "clock was never set"),
        ("%Y/%Y%m%d%H", "/v/2025/2026070110.mp4", "%Y is both 2025 and 2026"),
        ("%Y%j%H", "/v/202636600.mp4", "not in the year"),
    ],
)
def test_a_name_that_fits_but_is_no_moment_is_a_warning(
    pattern: str, address: str, why: str
) -> None:
    config = ClockConfig(file_names=(pattern,), zone="Europe/Berlin")
    source, _, (warning,) = found(address, config=config)
    assert source is None
    assert why in warning


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clock.file_names=['%Y%m%d-%H']", r"names no time zone \(%z\), so clock\.zone must say"),
        ("clock.file_names=['%Y%m%d-%s%z','%Y%m%d%z']", "must name day and hour"),
        ("clock.file_names=['%Q%s']", r"may hold %Y .*Got '%Q'"),
        ("clock.zone=Middle-earth", "must be a zone of the IANA database"),
    ],
)
def test_settings_that_give_no_moment_fail_before_a_job(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(IndexConfig, overrides=[setting])


def test_settings_from_a_file_and_the_command_line() -> None:
    config = load_config(
        IndexConfig, overrides=["clock.zone='+01:00'", "clock.file_names=['%Y%m%d%H']"]
    )
    assert config.clock.file_names == ("%Y%m%d%H",)
    assert found("/v/2026070110.mp4", config=config.clock)[1] == "2026-07-01T09:00:00+00:00"
