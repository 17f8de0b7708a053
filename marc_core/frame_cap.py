"""The cap on frames (paper, section 4: at most 64): one for indexing, answers and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cap_frames(positions: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most `most` of the positions (or times), evenly spread, first and last included."""
    if len(positions) <= most:
        return positions
    picked: NDArray[Any] = positions[np.linspace(0, len(positions) - 1, most).round().astype(int)]
    return picked
