"""Counters of timestamps that are too short and start again at zero while a video goes on.

FFmpeg can mend that by itself, but takes every step back of more than a minute for the counter's
end and adds its whole length: a recorder whose clock is set back by two minutes would get a gap of
a day. So it is told not to, and this is done here instead, only where stamps reach the end.
"""

from __future__ import annotations

NEAR_S = 60.0
"""Stamps on both sides of a counter's end are at most this far apart (our choice: as FFmpeg; a
file that begins that close to the end begins before 0:00)."""

_BITS = {"mpegts": 33, "mpeg": 33, "flv": 32, "live_flv": 32, "asf": 32}
"""Length of the counter by demuxer; those of all others hold any time."""


def wrap_after_s(container: str, tick_s: float | None) -> float | None:
    """Return how long the counter of a container's stamps runs, None where it never ends.

    container: name of FFmpeg's demuxer. tick_s: unit of the stream's stamps.
    """
    bits = _BITS.get(container)
    return None if bits is None or tick_s is None else 2.0**bits * tick_s


class Unwrap:
    """Lets stamps go on where their counter starts again. Call it with each, in order."""

    def __init__(self, period_s: float | None) -> None:
        self._period_s = period_s
        self._turns: int | None = None
        self._last_s = 0.0

    def __call__(self, stamp_s: float | None) -> float | None:
        """Return the stamp, or what it would be on a counter without end."""
        period_s = self._period_s
        if stamp_s is None or period_s is None:
            return stamp_s
        if self._turns is None:
            self._turns = -1 if stamp_s > period_s - NEAR_S else 0
        else:
            for turns in (self._turns + 1, self._turns - 1):
                if abs(stamp_s + turns * period_s - self._last_s) <= NEAR_S:
                    self._turns = turns
        self._last_s = stamp_s + self._turns * period_s
        return self._last_s
