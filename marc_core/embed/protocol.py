"""What the memory needs from an encoder.

Shape letters: N frames or texts, H W pixels, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFacts:
    """What a memory is bound to: `dim` channels of a vector, `fingerprint` of what makes it.

    hit_margin: see `DualEncoder`.
    """

    dim: int
    fingerprint: str
    hit_margin: float | None = None


class DualEncoder(Protocol):
    """Maps frames and texts to unit vectors whose dot product is their similarity."""

    @property
    def dim(self) -> int:
        """Channels D of both outputs."""
        ...

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with the weights or the preprocessing, not with the path."""
        ...

    @property
    def hit_margin(self) -> float | None:
        """Events whose cosine lies so close to the best one's fit a text as well as it; None where
        the encoder's directory does not say."""
        ...

    def encode_images(self, frames_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, D) unit vectors of (N, H, W, 3) uint8 RGB frames of any size."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, D) unit vectors of N texts; longer texts are cut at the model's limit."""
        ...
