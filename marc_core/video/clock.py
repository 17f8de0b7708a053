"""From presentation timestamps to true times: only numbers, one pass, bounded look-ahead.

    stamp of a frame --Clock.push--> times of the frames that are decided by now, increasing

Almost every stamp follows the one before it at an ordinary distance and is taken as it is, one
frame late. Where one does not, the next 16 frames are looked at and the cheapest explanation wins:

| what happened | costs | what follows |
|---|---|---|
| a stamp is an outlier; later ones go on as before | 1 | this frame's time is filled in |
| the clock jumped forward | 6 | a gap: from the end of the frame before to the next frame |
| the clock started again or stepped back | 6 | a seam: time goes on from where it was |
| a stamp is missing, or repeats | 0 | such frames share the time until the next stamp evenly |
| a picture is held, as the file itself says | 0 | nothing: times are the stamps |

So up to five frames in a row may be stamped anywhere, and six that agree are believed (our choice:
five spoilt stamps in a row were seen, and a part of a video shorter than six frames is no event).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

GAP_S = 10.0
"""A longer step forward is a gap, if it also exceeds ten ordinary steps (our choice: still pictures
are held for seconds; a slide show has long steps throughout)."""
GAP_STEPS = 10
HELD_S = 60.0
"""A step up to this long is none where the file says that the frame before it is shown as long as
that: recordings of a screen keep a picture for as long as nothing changes (our choice: a longer
one is a recorder that stood still, whatever its container makes of it)."""
LOOK_AHEAD = 16
"""Frames looked at where a stamp is doubtful (our choice: more than two breaks' worth)."""
SHARED_MOST = 64
"""Frames that share one stamp and are still spread (our choice: one second at 60 fps)."""
_BREAK = 6
"""Cost of a gap or seam, in outliers."""
_NEAR_S, _NEAR_STEPS = 0.25, 3
"""A step up to the larger of the two is ordinary and not looked into."""
_SAME_S = 1e-6
"""Stamps closer than this are the same."""
_NO_TIME_S = 1e10
"""A stamp beyond this (300 years) is none."""
_RECENT = 15
"""Steps whose median is the ordinary step."""
_OUTLIERS, _SEAMS = "Timestamps out of line", "Restarts of the clock"
"""How the warnings of a repaired clock begin."""


def repaired_by(warnings: Iterable[str]) -> bool:
    """Return whether the warnings of a decoded video say that times differ from their stamps."""
    return any(warning.startswith((_OUTLIERS, _SEAMS)) for warning in warnings)


@dataclass(frozen=True, slots=True)
class _Move:
    """The next frame in waiting whose stamp is believed (None: no stamp that waits is)."""

    cost: float
    position: int | None
    broken: bool = False
    uneven_s: float = 0.0

    def key(self) -> tuple[float, bool, float]:
        return self.cost, self.broken, self.uneven_s


class Clock:
    """Turns timestamps into strictly increasing seconds; every believed stamp stays untouched.

    Stamps may be None. After a seam, all later stamps are moved by what joins it. Memory does
    not grow with the number of frames, only with the number of gaps.
    """

    def __init__(self, *, step_s: float, start_s: float = 0.0) -> None:
        """`step_s`: distance of frames as the stream promises it; `start_s`: its first time."""
        self.gaps: list[tuple[float, float]] = []
        """[end of the frame before, next frame) of every jump forward."""
        self.past_gaps_s = 0.0
        """Seconds that lie in gaps so far."""
        self.num_outliers = 0
        """Stamps that were not believed."""
        self.num_seams = 0
        """Times that the clock started again or stepped back."""
        self.last_s: float | None = None
        """Time of the last frame that is decided."""
        self._promised_s, self._start_s = step_s, start_s
        self._stamp_s = math.nan
        self._offset_s = 0.0
        self._waiting: list[float | None] = []
        self._waiting_shown_s: list[float] = []
        self._shown_s = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._stuck = False

    @property
    def step_s(self) -> float:
        """The ordinary distance of frames: as of late, or as promised at the beginning."""
        return median(self._recent) if len(self._recent) > _RECENT // 3 else self._promised_s

    @property
    def offset_s(self) -> float:
        """What is added to stamps by now, for all the restarts so far."""
        return self._offset_s

    @property
    def repaired(self) -> bool:
        """Whether any time differs from its stamp for another reason than a missing stamp."""
        return self.num_outliers > 0 or self.num_seams > 0

    def warnings(self) -> tuple[str, ...]:
        """Return what happened, in words for people; () where nothing did."""
        said = []
        if self.num_outliers:
            said.append(f"{_OUTLIERS}, replaced by what their neighbours say: {self.num_outliers}.")
        if self.num_seams:
            said.append(f"{_SEAMS}, over which time goes on: {self.num_seams}.")
        if self.gaps:
            said.append(
                f"Jumps of the clock: {len(self.gaps)}, {self.past_gaps_s:.3f} s without pictures."
            )
        return tuple(said)

    def push(self, stamp_s: float | None, shown_s: float = 0.0) -> list[float]:
        """Take the stamp of the next frame; return the times of frames decided by it, in order.

        `shown_s`: how long the file says that this frame is shown; 0 where it does not.
        """
        if stamp_s is not None:
            stamp_s = stamp_s + self._offset_s if abs(stamp_s) < _NO_TIME_S else None
        waiting = self._waiting
        waiting.append(stamp_s)
        self._waiting_shown_s.append(shown_s)
        if len(waiting) == 2 and self.last_s is not None:
            first_s, second_s = waiting
            if (
                first_s is not None
                and second_s is not None
                and _SAME_S < first_s - self.last_s <= _NEAR_S
                and second_s - first_s > _SAME_S
            ):
                time_s = self._believe(0)
                self._drop(1)
                return [time_s]
        return self._decide(ended=False)

    def finish(self) -> list[float]:
        """Return the times of the frames that still wait: there are no more."""
        return self._decide(ended=True)

    def _decide(self, *, ended: bool) -> list[float]:
        times: list[float] = []
        while self._waiting and (found := self._next(ended=ended)):
            times += found
            self._drop(len(found))
        return times

    def _drop(self, count: int) -> None:
        """Take the first frames in waiting away: their times are decided."""
        del self._waiting[:count], self._waiting_shown_s[:count]

    def _next(self, *, ended: bool) -> list[float]:
        """Return the times of the first frames in waiting, [] when more must be seen."""
        run = self._unstamped()
        waiting = self._waiting
        if run == len(waiting):
            return self._without_stamp(run, ended=ended)
        if self.last_s is not None and run + 1 < len(waiting) and self._is_ordinary(run):
            return self._filled(run)
        if len(waiting) - run < LOOK_AHEAD and not ended:
            return []
        if self.last_s is None:
            self._learn_step()
        move = self._explain()
        if move.position is None:
            self.num_outliers += waiting[0] is not None
            return [self._on(self._after(1))]
        skipped = waiting[run : move.position]
        self.num_outliers += sum(stamp is not None for stamp in skipped)
        return self._broken(move.position) if move.broken else self._filled(move.position)

    def _unstamped(self) -> int:
        """Return how many frames at the front bear no stamp, or that of the frame before."""
        for i, stamp in enumerate(self._waiting):
            if stamp is not None and not abs(stamp - self._stamp_s) <= _SAME_S:
                return i
        return len(self._waiting)

    def _without_stamp(self, run: int, *, ended: bool) -> list[float]:
        """Continue by the ordinary step where waiting for a stamp has become hopeless."""
        if self.last_s is None:
            hopeless = run >= LOOK_AHEAD
        else:
            missing = self._waiting[0] is None and run > 1
            hopeless = missing or self._stuck or run >= SHARED_MOST
        if not (hopeless or ended):
            return []
        self._stuck = self._waiting[0] is not None
        return [self._on(self._start_s if self.last_s is None else self._after(1))]

    def _is_ordinary(self, position: int) -> bool:
        """Return whether the stamp there follows at an ordinary distance and the next follows it.

        A stamp too far ahead shows itself by the next one's stepping back.
        """
        stamp = self._waiting[position]
        assert stamp is not None
        assert self.last_s is not None
        for following in self._waiting[position + 1 :]:
            if following is not None and abs(following - stamp) > _SAME_S:
                break
        else:
            return False
        if following < stamp:
            return False
        near_s = max(_NEAR_S, _NEAR_STEPS * self.step_s * (position + 1))
        return _SAME_S < stamp - self.last_s <= near_s

    def _explain(self) -> _Move:
        """Return the first move of the cheapest explanation of the frames in waiting."""
        waiting, step_s = self._waiting, self.step_s
        reach_s = max(GAP_S, GAP_STEPS * step_s)
        costs: dict[int, float] = {}

        def best(after: int, from_s: float | None, same_s: float, shown_s: float) -> _Move:
            dropped, found = 0, []
            for k in range(after, len(waiting)):
                stamp = waiting[k]
                if stamp is None or abs(stamp - same_s) <= _SAME_S:
                    continue
                broken, uneven_s = False, 0.0
                if from_s is not None:
                    move_s, least_s = stamp - from_s, max(_SAME_S, dropped * step_s / 4)
                    held = move_s <= HELD_S and abs(move_s - shown_s) <= step_s
                    most_s = move_s if held else reach_s + dropped * step_s
                    broken = not least_s < move_s <= most_s
                    uneven_s = abs(move_s - (k - after + 1) * step_s)
                cost = dropped + costs[k] + broken * _BREAK
                found.append(_Move(cost, k, broken, uneven_s))
                dropped += 1
            found.append(_Move(dropped, None, uneven_s=math.inf))
            return min(found, key=_Move.key)

        for k in range(len(waiting) - 1, -1, -1):
            stamp = waiting[k]
            if stamp is not None:
                costs[k] = best(k + 1, stamp, stamp, self._waiting_shown_s[k]).cost
        return best(0, self.last_s, self._stamp_s, self._shown_s)

    def _learn_step(self) -> None:
        """Take the ordinary step of the first frames from their stamps.

        Long steps are ordinary where three quarters of them are about alike: pictures taken every
        few minutes, whatever rate the stream promises.
        """
        stamps = [stamp for stamp in self._waiting if stamp is not None]
        steps = [b - a for a, b in pairwise(stamps)]
        forward = [step for step in steps if step > _SAME_S]
        usual_s = median(forward) if forward else 0.0
        alike = [step for step in forward if usual_s / 2 <= step <= usual_s * 2]
        if usual_s > GAP_S and len(alike) >= max(_BREAK - 1, 0.75 * len(steps)):
            self._recent += alike
        else:
            self._recent += [step for step in forward if step <= GAP_S]

    def _filled(self, position: int) -> list[float]:
        """Believe the stamp there; spread the frames before it evenly up to it."""
        stamp = self._waiting[position]
        assert stamp is not None
        if self.last_s is None:
            step_s = self.step_s
            times = [self._on(stamp - (position - i) * step_s) for i in range(position)]
            return [*times, self._believe(position)]
        start_s, share_s = self.last_s, (stamp - self.last_s) / (position + 1)
        times = [self._on(start_s + (i + 1) * share_s) for i in range(position)]
        return [*times, self._believe(position)]

    def _broken(self, position: int) -> list[float]:
        """Believe the stamp there as the first after a jump or restart of the clock."""
        stamp = self._waiting[position]
        assert stamp is not None
        assert self.last_s is not None
        times = [self._on(self._after(1)) for _ in range(position)]
        end_s = self._after(1)
        if stamp - end_s > GAP_S:
            self.gaps.append((end_s, stamp))
            self.past_gaps_s += stamp - end_s
            self.last_s = None
            return [*times, self._believe(position)]
        self.num_seams += 1
        shift_s = end_s - stamp
        self._offset_s += shift_s
        self._waiting = [w if w is None else w + shift_s for w in self._waiting]
        self._waiting[position] = end_s
        return [*times, self._believe(position)]

    def _after(self, steps: int) -> float:
        assert self.last_s is not None
        return self.last_s + steps * self.step_s

    def _believe(self, position: int) -> float:
        """Move on to the frame in waiting there, whose stamp is its time."""
        stamp_s = self._waiting[position]
        assert stamp_s is not None
        self._stamp_s, self._stuck = stamp_s, False
        self._shown_s = self._waiting_shown_s[position]
        return self._on(stamp_s)

    def _on(self, time_s: float) -> float:
        """Return the frame's time, and move on to it."""
        if self.last_s is not None:
            time_s = max(time_s, math.nextafter(self.last_s, math.inf))
            self._recent.append(time_s - self.last_s)
        self.last_s = time_s
        return time_s
