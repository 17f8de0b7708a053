"""Where the pictures of a source lie: on a time of their own that wraps and jumps do not touch, and
on the wall clock.

    raw dts  --> unwrapped, jumps found --+--> Placed: time_s, wall_s, clock, broken
    the source's clock, or arrival here --+

A source's clock is what it sends: RTCP sender reports, program date times. Where it sends none, the
clock is this machine's at arrival: pictures cannot arrive before they happen, so of the differences
between arrival and timestamps the least one counts, and it may creep up by a thousandth, because
clocks drift.
"""

from __future__ import annotations

from dataclasses import dataclass

WRAP_S = 2**33 / 90_000
"""After so long the 33-bit timestamps of MPEG begin again: 26.5 hours."""
CREEP = 1e-3
"""How fast the estimate of the arrival's delay may grow, in seconds a second (our choice: ten times
what bad clocks drift)."""
ARRIVAL = "arrival"
"""Name of the clock that is this machine's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A packet's place. time_s: on the unwrapped clock of the pictures. wall_s: Unix seconds.

    clock: whose clock that is. broken: why it does not go on from the packet before; None where
    it does.
    """

    time_s: float
    wall_s: float
    clock: str
    broken: str | None = None


class Timeline:
    """Places the packets of one video stream, in decoding order."""

    def __init__(self, jump_s: float) -> None:
        self._jump_s = jump_s
        self._offset_s = 0.0
        self._last: tuple[float, float, str] | None = None  # time_s, wall_s, clock of the last
        self._delay_s: float | None = None

    def restart(self) -> None:
        """Begin anew: the next packet is of another connection, whose timestamps are others."""
        self._last, self._delay_s, self._offset_s = None, None, 0.0

    def near(self, stamp_s: float) -> float:
        """Return the time of another timestamp, such as one of the sound, near the last picture."""
        time_s = stamp_s + self._offset_s
        if self._last is None:
            return time_s
        return min((time_s, time_s + WRAP_S, time_s - WRAP_S), key=self._distance)

    def _distance(self, time_s: float) -> float:
        assert self._last is not None
        return abs(time_s - self._last[0])

    def place(self, stamp_s: float, *, wall_s: float | None, clock: str, now_s: float) -> Placed:
        """Return the place of the next packet.

        stamp_s: its timestamp as sent. wall_s: by the source's `clock`, None where it says
        nothing. now_s: this machine's clock.
        """
        time_s, broken = self._unwrapped(stamp_s)
        if broken:
            self._delay_s = None
        arrival_s = self._arrival(time_s, now_s)
        if wall_s is None:
            wall_s, clock = arrival_s, ARRIVAL
        if self._last is not None and not broken:
            broken = self._clock_jump(time_s, wall_s, clock)
        self._last = (time_s, wall_s, clock)
        return Placed(time_s=time_s, wall_s=wall_s, clock=clock, broken=broken)

    def _unwrapped(self, stamp_s: float) -> tuple[float, str | None]:
        time_s = stamp_s + self._offset_s
        if self._last is None:
            return time_s, None
        step_s = time_s - self._last[0]
        for turn_s in (WRAP_S, -WRAP_S):
            if abs(step_s + turn_s) <= self._jump_s < abs(step_s):
                self._offset_s += turn_s
                return time_s + turn_s, None
        if step_s < 0:
            return time_s, f"timestamps went back by {-step_s:.1f} s"
        if step_s > self._jump_s:
            return time_s, f"no pictures for {step_s:.1f} s"
        return time_s, None

    def _arrival(self, time_s: float, now_s: float) -> float:
        delay_s = now_s - time_s
        if self._delay_s is None or self._last is None:
            self._delay_s = delay_s
        else:
            crept = self._delay_s + CREEP * max(0.0, time_s - self._last[0])
            self._delay_s = min(delay_s, crept)
        return time_s + self._delay_s

    def _clock_jump(self, time_s: float, wall_s: float, clock: str) -> str | None:
        assert self._last is not None
        last_time_s, last_wall_s, last_clock = self._last
        if clock != last_clock:
            return f"the clock is {clock} now"
        jump_s = (wall_s - last_wall_s) - (time_s - last_time_s)
        if abs(jump_s) > self._jump_s:
            return f"the source's clock jumped by {jump_s:+.1f} s"
        return None
