"""How a stored picture is shown: turned by quarters and mirrored, as the display matrix says.

A display matrix (ISO 14496-12, `tkhd`) maps a stored pixel (x, y) to (a x + c y, b x + d y); its
nine numbers are (a b u / c d v / x y w). Its eight shape-keeping cases are what FFmpeg's
autorotation shows. Any other angle is taken to the nearest quarter turn (FFmpeg's program turns the
picture inside a frame of the stored size).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

_MATRIX = struct.Struct("=9i")
"""Nine numbers in this machine's byte order, as FFmpeg hands them over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """Mirrored left to right first (where `mirrored`), then turned clockwise `quarters` times."""

    quarters: int = 0
    mirrored: bool = False

    @property
    def clockwise_deg(self) -> int:
        """Degrees that the picture is turned clockwise, after mirroring."""
        return 90 * self.quarters

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.quarters % 2 == 1

    def apply(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture as it is shown, a view of `image_HWC`."""
        if self.mirrored:
            image_HWC = image_HWC[:, ::-1]
        return np.rot90(image_HWC, -self.quarters) if self.quarters else image_HWC


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return how `frame` is shown; upright where it carries no display matrix."""
    try:
        data = bytes(frame.side_data["DISPLAYMATRIX"])  # type: ignore[typeddict-item]
    except KeyError:
        return UPRIGHT
    a, b, _, c, d, *_ = _MATRIX.unpack(data)
    return orientation(a, b, c, d)


def orientation(a: int, b: int, c: int, d: int) -> Orientation:
    """Return the orientation nearest to the matrix (a b / c d); upright where it is singular."""
    determinant = a * d - b * c
    if determinant == 0:
        return UPRIGHT
    mirrored = determinant < 0
    sign = -1 if mirrored else 1
    quarters = round(math.atan2(sign * b, sign * a) / (math.pi / 2)) % 4
    return Orientation(quarters=quarters, mirrored=mirrored)
