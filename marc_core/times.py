"""Times of a video, and counts, as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Return seconds as people read them: "1:02.5", "1:00:02.5"."""
    tenths = round(seconds * 10)
    sign, tenths = ("-" if tenths < 0 else ""), abs(tenths)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{sign}{hours}:{minutes:02d}:{tail}" if hours else f"{sign}{minutes}:{tail}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 video", "2,000 videos"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
