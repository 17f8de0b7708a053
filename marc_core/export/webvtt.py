"""WebVTT (W3C): captions that browsers and players show beside a video."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A stretch of a video with words, from its 0:00. id: what addresses it, None for none."""

    start_s: float
    end_s: float
    text: str
    id: str | None = None


def webvtt(cues: Iterable[Cue], *, note: str = "") -> str:
    """Return the file: cues in order of their start, each a millisecond long at least.

    Words are escaped, so that none is markup. An empty line would end a cue, so it is left out;
    what lies before 0:00 is cut off, and a cue without words or wholly before it left out.
    """
    blocks = ["WEBVTT"]
    if line := _one_line(note):
        blocks.append(f"NOTE {line}")
    for cue in sorted(cues, key=lambda cue: (cue.start_s, cue.end_s)):
        words = _words(cue.text)
        start_ms = max(0, round(cue.start_s * 1000))
        end_ms = max(start_ms + 1, round(cue.end_s * 1000))
        if not words or cue.end_s <= 0:
            continue
        head = [name] if cue.id is not None and (name := _one_line(cue.id)) else []
        blocks.append("\n".join([*head, f"{_time(start_ms)} --> {_time(end_ms)}", words]))
    return "\n\n".join(blocks) + "\n"


def _words(text: str) -> str:
    lines = (line.strip() for line in re.split(r"\r\n|[\r\n\x85\u2028\u2029\x0b\x0c]", text))
    kept = "\n".join(line for line in lines if line).replace("\0", "\ufffd")
    return kept.translate(_MARKUP)


def _one_line(text: str) -> str:
    """Return text for a line that must not hold an arrow, which would begin a cue's time."""
    return " ".join(text.replace("-->", "->").split())


def _time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"
