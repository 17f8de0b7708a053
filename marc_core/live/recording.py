"""Packets of one source become segment files: copied, never encoded again.

    put(packet) --> Timeline --+-- goes on ----------> the open segment
                               +-- a keyframe, and the segment is long enough --> next segment
                               +-- broken, or another picture size --> next keyframe begins one

Between two segments nothing is lost but what lies before a keyframe: after a break no decoder
could show it. Where more than `gap_s` of the source's clock is missing, that is told as a gap, and
as soon as it begins: a source that never comes back has one that is still open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.live.segment import Parameters, Segment
from marc_core.live.spool import Spool, moment_of
from marc_core.live.timeline import Placed, Timeline

if TYPE_CHECKING:
    from av import Packet

    from marc_core.live.config import WatchConfig

Tell = Callable[[dict[str, Any]], None]
"""Takes what happened: a dict of plain values with `what`: closed, gap, state."""
NOT_RUNNING = "marc watch was not running"
_AUDIO_WAIT_S = 1.0
"""How far pictures may be ahead of the sound of the segment before, which then closes (our
choice)."""
_EARLY_S = 0.05
"""A keyframe so little before the end of a segment ends it (our choice: rates are not exact)."""


class Recording:
    """What is recorded of one source. From one thread, or under one lock."""

    def __init__(self, spool: Spool, config: WatchConfig, tell: Tell) -> None:
        self._spool, self._config, self._tell = spool, config, tell
        self._timeline = Timeline(config.jump_s)
        self._parameters: Parameters | None = None
        self._segment: Segment | None = None
        self._closing: tuple[Segment, float] | None = None
        self._container: Any = None
        self._start_s = 0.0
        self._until_s = spool.recorded_until_s
        self._gap_told = False
        self.take_up()
        self._why: str | None = None if self._until_s is None else NOT_RUNNING

    @property
    def until_s(self) -> float | None:
        """Until when the source is recorded, Unix seconds of its clock; None: nothing yet."""
        return self._until_s

    def take_up(self) -> None:
        """Close what a killed recorder left open, where there are pictures in it."""
        from marc_core.live.segment import measure

        for path in self._spool.left_open():
            length_s = measure(path)
            if length_s is None:
                self._spool.drop(path)
                continue
            closed = self._spool.close(path)
            start_s = self._spool.start_of(closed)
            self._remember(start_s + length_s)
            self._tell_closed(closed, start_s, start_s + length_s, "taken up")

    def connected(self, reason: str = "a new connection") -> None:
        """Say that packets follow whose timestamps do not go on from those before, and why."""
        self.close()
        self._timeline.restart()
        self._why = self._why or reason

    def lost(self, reason: str) -> None:
        """Say that the source gives nothing now; the gap begins where the recording ends, and now
        where there is none yet."""
        self.close()
        self._why = reason
        if self._until_s is None:
            self._remember(time.time())
        assert self._until_s is not None
        self._tell_gap(self._until_s, None, reason)
        self._gap_told = True

    def put(self, packet: Packet[Any], *, wall_s: float | None = None, clock: str = "") -> None:
        """Record a packet. wall_s: when it happened, by the source's clock of this name."""
        if packet.stream.type != "video":
            self._put_audio(packet)
            return
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        stamp_s = float(stamp * packet.time_base)
        placed = self._timeline.place(stamp_s, wall_s=wall_s, clock=clock, now_s=time.time())
        if placed.broken:
            self.close()
            self._why = self._why or placed.broken
        if packet.is_keyframe:
            self._at_keyframe(packet, placed)
        if self._segment is None:
            return  # a picture that nothing can show: the next keyframe begins a segment
        length_s = float((packet.duration or 0) * packet.time_base)
        self._until_s = max(self._until_s or 0.0, placed.wall_s + length_s)
        self._mux(self._segment, self._start_s, packet)
        if self._closing and placed.time_s > self._start_s + _AUDIO_WAIT_S:
            self._finish(self._closing[0])
            self._closing = None

    def _mux(self, segment: Segment, start_s: float, packet: Packet[Any]) -> None:
        base = packet.time_base
        stamps = [stamp for stamp in (packet.pts, packet.dts) if stamp is not None]
        pts_s, dts_s = (self._timeline.near(float(s * base)) for s in (stamps[0], stamps[-1]))
        segment.mux(packet, pts_s - start_s, dts_s - start_s)

    def ended(self) -> None:
        """Say that what was put ends here, before the next keyframe has come: a segment that is
        long enough need not wait for it."""
        if self._segment is not None and self._segment.length_s >= self._enough_s:
            self.close()

    @property
    def _enough_s(self) -> float:
        return self._config.segment_s - _EARLY_S

    def close(self) -> None:
        """Close the open segment, if there is one."""
        closing, segment = self._closing, self._segment
        self._closing = self._segment = None
        if closing is not None:
            self._finish(closing[0])
        if segment is not None:
            self._finish(segment)

    def _at_keyframe(self, packet: Packet[Any], placed: Placed) -> None:
        container = packet.stream.container
        known = self._parameters if container is self._container else None
        parameters = Parameters.of(packet, known)
        if self._segment is not None:
            same = parameters == self._parameters
            if same and placed.time_s - self._start_s < self._enough_s:
                return
            if same and self._segment.has_audio:
                self._close_late(self._segment)
            else:
                self.close()
        self._parameters, self._container = parameters, container
        self._begin(packet, placed)

    def _close_late(self, segment: Segment) -> None:
        """Let a segment close when its sound has come."""
        if self._closing is not None:
            self._finish(self._closing[0])
        self._closing, self._segment = (segment, self._start_s), None

    def _begin(self, packet: Packet[Any], placed: Placed) -> None:
        assert self._parameters is not None
        path = self._spool.open_path(placed.wall_s, placed.clock)
        try:
            segment = Segment(path, packet, self._parameters, placed.wall_s)
        except ValueError:  # no file can hold this: what is missing stays a gap
            self._spool.drop(path)
            raise
        self._settle_gap(placed.wall_s)
        self._start_s, self._segment = placed.time_s, segment
        self._until_s = placed.wall_s

    def _settle_gap(self, wall_s: float) -> None:
        """Tell the gap before `wall_s`, or that there is none after all."""
        if self._until_s is not None and self._why is not None:
            missing_s = wall_s - self._until_s
            if abs(missing_s) > self._config.gap_s:
                self._tell_gap(self._until_s, wall_s, self._why)
            elif self._gap_told:
                self._tell_gap(self._until_s, self._until_s, self._why)
        self._why, self._gap_told = None, False

    def _put_audio(self, packet: Packet[Any]) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if self._segment is None or stamp is None:
            return
        if self._closing is not None:
            if self._timeline.near(float(stamp * packet.time_base)) < self._start_s:
                self._mux(*self._closing, packet)
                return
            self._finish(self._closing[0])
            self._closing = None
        self._mux(self._segment, self._start_s, packet)

    def _finish(self, segment: Segment) -> None:
        length_s = segment.close()
        closed = self._spool.close(segment.path)
        until_s = segment.wall_s + length_s
        self._remember(until_s)
        self._tell_closed(closed, segment.wall_s, until_s, "closed")

    def _remember(self, until_s: float) -> None:
        self._spool.recorded_until_s = until_s
        if self._segment is None or self._until_s is None:
            self._until_s = until_s

    def _tell_closed(self, path: Path, from_s: float, until_s: float, why: str) -> None:
        span = {"from": moment_of(from_s).isoformat(), "until": moment_of(until_s).isoformat()}
        self._tell({"what": "closed", "path": str(path), "why": why, **span})

    def _tell_gap(self, from_s: float, until_s: float | None, reason: str) -> None:
        until = None if until_s is None else moment_of(until_s).isoformat()
        message = {"from": moment_of(from_s).isoformat(), "until": until, "reason": reason}
        self._tell({"what": "gap", **message})
