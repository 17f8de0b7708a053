"""When the frames of a sound sound: from stamps, which jitter, to runs without a break.

    (stamp, length) of each frame --Anchors.push--> time, joins the frame before or not

Sound is counted by its samples, not by its stamps: a stamp within `NEAR_S` of where the sound goes
on is rounding or drift. A stamp elsewhere begins a new run if most of the frames that follow agree
with it, and is an outlier otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

NEAR_S = 0.05
"""Stamps this close to the end of the sound before go on with it (our choice: Matroska rounds to
1 ms, cameras drift by some ms a minute; a run begins anew once it is off by more)."""
LOOK_AHEAD = 6
"""Frames that are asked whether a stamp is right (our choice, as for pictures: five outliers in a
row were seen)."""
_NO_TIME_S = 1e10

Frame = TypeVar("Frame")


class Anchors(Generic[Frame]):
    """Gives each frame of a sound its time. Holds `LOOK_AHEAD` frames back at most."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float | None, float, Frame]] = deque()
        self._end_s: float | None = None

    def push(
        self, stamp_s: float | None, length_s: float, frame: Frame
    ) -> Iterator[tuple[float, bool, Frame]]:
        """Take the next frame; yield (time, joins, frame) of those decided by now.

        joins: whether the frame begins exactly where the one before ended.
        """
        if stamp_s is not None and abs(stamp_s) >= _NO_TIME_S:
            stamp_s = None
        self._waiting.append((stamp_s, length_s, frame))
        if len(self._waiting) > LOOK_AHEAD:
            yield self._decide()

    def finish(self) -> Iterator[tuple[float, bool, Frame]]:
        """Yield the frames that still wait: there are no more."""
        while self._waiting:
            yield self._decide()

    def _decide(self) -> tuple[float, bool, Frame]:
        stamp_s = self._believed_s()
        _, length_s, frame = self._waiting.popleft()
        time_s, joins = self._end_s, True
        if time_s is None or (stamp_s is not None and abs(stamp_s - time_s) > NEAR_S):
            time_s, joins = (0.0 if stamp_s is None else stamp_s), False
        self._end_s = time_s + length_s
        return time_s, joins, frame

    def _believed_s(self) -> float | None:
        """Return the first frame's time as the stamps have it; None where they do not say."""
        starts, after_s = [], 0.0
        for stamp_s, length_s, _ in self._waiting:
            if stamp_s is not None:
                starts.append(stamp_s - after_s)
            after_s += length_s
        if not starts:
            return None
        if self._end_s is not None and self._waiting[0][0] is None:
            return None
        first_s = starts[0]
        agreeing = sum(abs(start_s - first_s) <= NEAR_S for start_s in starts)
        if 2 * agreeing > len(starts) or (self._end_s is None and len(starts) < 3):
            return first_s
        if self._end_s is not None:
            return None
        return sorted(starts)[len(starts) // 2]  # the very first frame: what most say
