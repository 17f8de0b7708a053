"""How close to the best cosine another event's must be to fit a question as well.

It belongs to an encoder: cosines of one spread from -1 to 1, those of a SigLIP over a few
hundredths. `marc.json` beside the encoder's weights holds it where it was measured; for others it
is calibrated on the events at hand from their scores with texts that have nothing to do with them.

Letters: T texts, E events, D channels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from marc_core.errors import ModelLoadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.embed.protocol import DualEncoder

FILE, KEY, FOOTAGE = "marc.json", "hit_margin", "footage"
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


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """What marc.json beside an encoder's weights says. hit_margin: see above; None: not measured.
    footage: whether it was trained on footage; one that was not says nothing about it."""

    hit_margin: float | None = None
    footage: bool = True


def stored_settings(directory: Path) -> EncoderSettings:
    """Return what marc.json in an encoder's directory says, defaults without one.

    Raises ModelLoadError for a file that holds anything else.
    """
    path = directory / FILE
    if not path.is_file():
        return EncoderSettings()
    try:
        stored = json.loads(path.read_text())
    except ValueError:
        stored = None
    known = isinstance(stored, dict) and bool(stored) and stored.keys() <= {KEY, FOOTAGE}
    margin = stored.get(KEY) if known else None
    footage = stored.get(FOOTAGE, True) if known else None
    is_number = isinstance(margin, int | float) and not isinstance(margin, bool)
    good = margin is None or (is_number and 0 < margin <= 2)
    if not known or not good or not isinstance(footage, bool):
        raise ModelLoadError(
            f"'{path}' must hold one JSON object with {KEY}, a number above 0 and at most 2, and "
            f"{FOOTAGE}, whether the encoder knows footage, or one of them."
        )
    return EncoderSettings(hit_margin=None if margin is None else float(margin), footage=footage)


def calibrated_margin(encoder: DualEncoder, vectors_ED: NDArray[np.float32]) -> float:
    """Return the margin from the scores of unrelated texts with these events' unit vectors.

    The scores' standard deviation over the events, averaged over the texts, times `SPREADS`: what
    chance alone makes of a difference. 0 for a single event.
    """
    scores_TE = encoder.encode_texts(UNRELATED) @ vectors_ED.T
    return float(SPREADS * scores_TE.std(axis=1).mean())
