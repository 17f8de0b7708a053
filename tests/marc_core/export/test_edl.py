"""Edit decision lists: timecodes counted frame by frame, the form read back."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from marc_core.errors import ConfigError
from marc_core.export.edl import Clip, edl, rate_of, timecode

LINE = re.compile(r"(\d{3})  AX       V     C        (\S{11}) (\S{11}) (\S{11}) (\S{11})")


def counted(rate: Fraction, minutes: int) -> list[str]:
    """Return the timecodes of so many minutes, counted as the standard says it."""
    base, drop = round(rate), {30: 2, 60: 4}.get(round(rate), 0)
    drop = drop if rate.denominator == 1001 else 0
    return [
        f"00:{minute:02d}:{second:02d}:{frame:02d}"
        for minute in range(minutes)
        for second in range(60)
        for frame in range(base)
        if not (minute % 10 and second == 0 and frame < drop)
    ]


@pytest.mark.parametrize("fps", [23.976, 24, 25, 29.97, 30, 50, 59.94])
def test_timecodes_are_those_that_counting_gives(fps: float) -> None:
    rate = rate_of(fps)
    expected = counted(rate, 21)
    step = 7 if fps > 40 else 1
    frames = range(0, len(expected), step)
    assert [timecode(frame, rate) for frame in frames] == expected[::step]


def test_drop_frame_keeps_up_with_the_clock() -> None:
    assert timecode(round(3600 * Fraction(30000, 1001)), rate_of(29.97)) == "01:00:00:00"
    assert timecode(round(3600 * Fraction(60000, 1001)), rate_of(59.94)) == "01:00:00:00"
    with pytest.raises(ConfigError, match="24 hours"):
        timecode(25 * 3600 * 25, Fraction(25))


def test_a_list_is_read_back() -> None:
    clips = [
        Clip(name="gate 3.mp4", start_s=50.8, end_s=53.0, notes=("RECORDED 2026-03-01", "")),
        Clip(name="caf\u00e9\n* FCM: x.mp4", start_s=0.0, end_s=0.001),
    ]
    text = edl(clips, title="a red\ncircle", fps=25)
    assert text.endswith("\r\n")
    head, mode, empty, *lines = text.split("\r\n")[:-1]
    assert (head, mode, empty) == ("TITLE: a red circle", "FCM: NON-DROP FRAME", "")
    events = [found.groups() for line in lines if (found := LINE.fullmatch(line))]
    assert events == [
        ("001", "00:00:50:20", "00:00:53:00", "01:00:00:00", "01:00:02:05"),
        ("002", "00:00:00:00", "00:00:00:01", "01:00:02:05", "01:00:02:06"),
    ]
    assert [line for line in lines if not LINE.fullmatch(line)] == [
        "* FROM CLIP NAME: gate 3.mp4", "* COMMENT: RECORDED 2026-03-01",
        "* FROM CLIP NAME: cafe * FCM: x.mp4",
    ]  # fmt: skip
    assert text.isascii()


def test_a_drop_frame_list_says_so_and_starts_at_one_hour() -> None:
    text = edl([Clip(name="a", start_s=59.99, end_s=61.0)], title="t", fps=30000 / 1001)
    assert "FCM: DROP FRAME" in text
    (found,) = LINE.findall(text)
    assert found[1:4] == ("00:00:59:28", "00:01:01:00", "01:00:00:00")


@pytest.mark.parametrize("fps", [10.0, 29.9, 23.9, 120.0])
def test_rates_that_timecodes_do_not_know_are_refused(fps: float) -> None:
    with pytest.raises(ConfigError, match="give --fps"):
        rate_of(fps)


def test_more_clips_than_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 999 clips"):
        edl([Clip(name="a", start_s=0, end_s=1)] * 1000, title="t", fps=25)
