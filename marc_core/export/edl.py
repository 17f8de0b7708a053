"""Edit decision lists in the CMX 3600 form, which editing programs import.

    TITLE: red circle
    FCM: NON-DROP FRAME

    001  AX       V     C        00:00:50:20 00:00:52:25 01:00:00:00 01:00:02:05
    * FROM CLIP NAME: gate 3.mp4

Source times count from the video's first picture, record times from 01:00:00:00, one clip after
the other. All times of a list are of one rate. At 29.97 and 59.94 frames a second they are
drop-frame (SMPTE ST 12-1): at the start of every minute but each tenth two numbers (four) are left
out, so that they keep up with the clock; 23.976 counts 24 numbers a second and falls behind it, as
editors do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from marc_core.errors import ConfigError

MOST_CLIPS = 999
"""Events of a list: their number has three digits."""
RECORD_START_S = 3600
_COMMENT = 200
"""Characters of a comment that are kept (our choice: the form says nothing, programs cut)."""
_RATES = tuple(Fraction(n) for n in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50",
                                      "60000/1001", "60"))  # fmt: skip
_NEAR = Fraction(1, 5000)
"""Containers' rates within so much of a standard one are that one (29.97 is 30000/1001)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A stretch of a video, from its 0:00. notes: comments below it."""

    name: str
    start_s: float
    end_s: float
    notes: tuple[str, ...] = ()


def rate_of(fps: float) -> Fraction:
    """Return the rate of timecodes that is a frame rate. Raises ConfigError where none is."""
    for rate in _RATES:
        if abs(Fraction(fps) - rate) <= rate * _NEAR:
            return rate
    known = ", ".join(f"{float(rate):g}" for rate in _RATES)
    raise ConfigError(f"An EDL counts frames at one of {known} a second. Got {fps:g}: give --fps.")


def timecode(frame: int, rate: Fraction) -> str:
    """Return HH:MM:SS:FF of a frame number from 0."""
    base = round(rate)
    if is_drop(rate):
        left_out = base // 15  # 2 of 30, 4 of 60
        of_ten = base * 600 - 9 * left_out
        of_one = base * 60 - left_out
        tens, rest = divmod(frame, of_ten)
        minutes = max(0, (rest - left_out) // of_one)
        frame += 9 * left_out * tens + left_out * minutes
    seconds, frames = divmod(frame, base)
    hours, seconds = divmod(seconds, 3600)
    if hours > 23:
        raise ConfigError("A timecode ends at 24 hours; this list reaches further. Export less.")
    return f"{hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}:{frames:02d}"


def is_drop(rate: Fraction) -> bool:
    """Return whether timecodes of this rate are drop-frame."""
    return rate.denominator == 1001 and round(rate) % 30 == 0


def edl(clips: Sequence[Clip], *, title: str, fps: float) -> str:
    """Return the list. Raises ConfigError for more clips than one may have, and for odd rates."""
    rate = rate_of(fps)
    if len(clips) > MOST_CLIPS:
        raise ConfigError(
            f"An EDL has at most {MOST_CLIPS} clips. Got {len(clips):,}: narrow them by filters, "
            "or take another format."
        )
    mode = "DROP FRAME" if is_drop(rate) else "NON-DROP FRAME"
    lines = [f"TITLE: {_plain(title, 70)}", f"FCM: {mode}", ""]
    record = _hour(rate)
    for number, clip in enumerate(clips, start=1):
        first, length = _frames(clip, rate)
        times = (first, first + length, record, record + length)
        shown = " ".join(timecode(frame, rate) for frame in times)
        lines.append(f"{number:03d}  AX       V     C        {shown}")
        lines.append(f"* FROM CLIP NAME: {_plain(clip.name)}")
        lines += [f"* COMMENT: {_plain(note)}" for note in clip.notes if note]
        record += length
    return "\r\n".join(lines) + "\r\n"


def _hour(rate: Fraction) -> int:
    """Return the frame whose timecode is 01:00:00:00."""
    base = round(rate)
    return base * RECORD_START_S - (54 * (base // 15) if is_drop(rate) else 0)


def _frames(clip: Clip, rate: Fraction) -> tuple[int, int]:
    """Return a clip's first frame and its number of frames, one at least; ends are exclusive."""
    first = max(0, round(Fraction(clip.start_s) * rate))
    return first, max(1, round(Fraction(clip.end_s) * rate) - first)


def _plain(text: str, most: int = _COMMENT) -> str:
    """Return text on one line in ASCII, as old readers of lists need it; letters lose accents."""
    line = " ".join(unicodedata.normalize("NFKD", text).split())
    kept = "".join(c for c in line if not unicodedata.combining(c))
    return kept.encode("ascii", "replace").decode()[:most]
