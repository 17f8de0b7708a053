"""How close to the best cosine another event's must be to fit a question as well.

It belongs to an encoder: cosines of one spread from -1 to 1, those of a SigLIP over a few
hundredths. `marc.json` beside the encoder's weights holds it where it was measured; for others it
is calibrated on the events at hand from their scores with texts that have nothing to do with them.

Letters: T texts, E events, D channels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from marc_core.errors import ModelLoadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.embed.protocol import DualEncoder

FILE, KEY = "marc.json", "hit_margin"
SPREADS = 1.0
"""The margin as a multiple of the spread of unrelated scores (our choice, see docs/compression.md).
"""
UNRELATED = (
    "a person walks along a street", "a dog runs over a lawn", "a car turns at a crossing",
    "a woman talks to the camera", "two children play with a ball", "a train enters a station",
    "a bird sits on a branch", "a cook cuts vegetables", "a boat on a lake", "a crowd in a hall",
    "a man opens a door", "snow falls on a field", "a truck is unloaded", "a cat sleeps on a sofa",
    "an aeroplane takes off", "a worker welds metal", "a bus waits at a stop", "fire and smoke",
    "a slide with text and a diagram", "a football match", "a market with fruit", "a hand writes",
    "a horse on a meadow", "an empty corridor at night", "traffic on a motorway", "a river bank",
    "a singer on a stage", "a shelf full of boxes", "a forklift in a warehouse", "a baby laughs",
    "a bicycle leans on a wall", "a mountain at sunrise",
)  # fmt: skip
"""Texts for the calibration (our choice)."""


def stored_margin(directory: Path) -> float | None:
    """Return what marc.json in an encoder's directory says, None without one.

    Raises ModelLoadError for a file that holds anything else.
    """
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text())
        margin = stored.pop(KEY) if isinstance(stored, dict) else None
    except (ValueError, KeyError):
        stored, margin = None, None
    good = isinstance(margin, int | float) and not isinstance(margin, bool) and 0 < margin <= 2
    if stored != {} or not good:
        raise ModelLoadError(
            f"'{path}' must hold one JSON object with {KEY}, a number above 0 and at most 2."
        )
    return float(margin or 0.0)


def calibrated_margin(encoder: DualEncoder, vectors_ED: NDArray[np.float32]) -> float:
    """Return the margin from the scores of unrelated texts with these events' unit vectors.

    The scores' standard deviation over the events, averaged over the texts, times `SPREADS`: what
    chance alone makes of a difference. 0 for a single event.
    """
    scores_TE = encoder.encode_texts(UNRELATED) @ vectors_ED.T
    return float(SPREADS * scores_TE.std(axis=1).mean())
