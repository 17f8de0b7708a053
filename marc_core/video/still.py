"""Every frame at 48 x 27, of which those are not scaled that lie in a picture that stands still.

    frames --every 4th--> scaled: anchors. Between two anchors that differ by little in few tiles
                          the frames are drawn from one to the other; else they are scaled, too

Scaling every frame is what both streams cost beside decoding itself, and a fixed camera shows the
same picture again and again. What is drawn differs from what would be scaled by no more than the
anchors differ, so neither a cut nor a dissolve can lie in it: either shows at the next anchor.
What is there between two anchors only, for less than `SPAN_S`, is no shot (events.MIN_SHOT_S).

Whether frames are drawn depends on the anchors beside them alone, and a part of a recording begins
at a multiple of 100 frames (parts.ALIGN): parts have the frames that one pass has.

Shape letters: R x C = 9 x 16 tiles of 3 x 3 pixels, B frames between two anchors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from marc_core.video.sampling import SHOT_HEIGHT, SHOT_WIDTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVERY = 4
"""Frames from one anchor to the next (our choice: three quarters of the scaling is saved)."""
SPAN_S = 0.3
"""The most time between anchors with drawn frames (our choice: well below the shortest shot)."""
STEP_GREY, STEP_SHARE = 1, 0.06
"""Grey levels by which no more than a share of the tiles may differ between two anchors (our
choice: a tile averages noise out, and a dissolve of three seconds moves most of them by more)."""
MOST_GREY = 16
"""Grey levels by which no tile at all may differ (our choice: somebody who walks by does less)."""
_TILE = 3
_HELD_BYTES = 32 * 1024**2
"""What frames may hold that wait for their anchor, at the decoder's own size; larger ones are all
scaled (our choice: 1080p still waits)."""


class SmallFrame(Protocol):
    """A frame that can be scaled to 48 x 27."""

    def small(self) -> NDArray[np.uint8]:
        """Return the frame as (27, 48, 3) uint8 RGB."""
        ...


Frame = TypeVar("Frame", bound=SmallFrame)


def distance_of_anchors(frame_bytes: int) -> int:
    """Return how many frames there are to one that is scaled in any case."""
    return EVERY if EVERY * frame_bytes <= _HELD_BYTES else 1


def with_small(
    frames: Iterable[tuple[float, Frame]], every: int = EVERY
) -> Iterator[tuple[float, Frame, NDArray[np.uint8]]]:
    """Yield (time_s, frame, (27, 48, 3) uint8 RGB) of each frame. `every` is a power of two."""
    before: _Anchor | None = None
    waiting: list[tuple[float, Frame]] = []
    for number, (time_s, frame) in enumerate(frames):
        if number % every:
            waiting.append((time_s, frame))
            continue
        anchor = _Anchor(time_s, frame.small())
        still = bool(waiting) and before is not None and anchor.is_like(before)
        drawn = _between(before, anchor, every) if still and before is not None else None
        for i, (waited_s, waited) in enumerate(waiting):
            yield waited_s, waited, waited.small() if drawn is None else drawn[i]
        yield time_s, frame, anchor.picture_HWC
        before, waiting = anchor, []
    for waited_s, waited in waiting:
        yield waited_s, waited, waited.small()


class _Anchor:
    """A frame that was scaled, and the sums of its tiles."""

    def __init__(self, time_s: float, picture_HWC: NDArray[np.uint8]) -> None:
        self.time_s = time_s
        self.picture_HWC = np.ascontiguousarray(picture_HWC)
        rows, columns = SHOT_HEIGHT // _TILE, SHOT_WIDTH // _TILE
        tiles = self.picture_HWC.reshape(rows, _TILE, columns, _TILE, 3)
        self._sums_RC3 = tiles.sum(axis=(1, 3), dtype=np.int16)

    def is_like(self, other: _Anchor) -> bool:
        """Return whether frames between the two may be drawn."""
        if self.time_s - other.time_s > SPAN_S:
            return False
        step_RC = np.abs(self._sums_RC3 - other._sums_RC3).max(axis=2)
        moved = (step_RC > STEP_GREY * _TILE**2).mean()
        return bool(moved <= STEP_SHARE and step_RC.max() <= MOST_GREY * _TILE**2)


def _between(before: _Anchor, after: _Anchor, every: int) -> NDArray[np.uint8]:
    """Return the (B, 27, 48, 3) frames from one picture to the other, evenly."""
    weights_B = np.arange(1, every, dtype=np.uint16)[:, None, None, None]
    a, b = before.picture_HWC.astype(np.uint16), after.picture_HWC.astype(np.uint16)
    drawn: NDArray[np.uint16] = ((every - weights_B) * a + weights_B * b + every // 2) // every
    return drawn.astype(np.uint8)
