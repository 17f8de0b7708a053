"""Sentences that a synthetic voice speaks, for videos with known words (folder `spoken`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from marc_core.types import SOUND_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLDER = Path(__file__).parent / "spoken"

SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "bakery": "A red bicycle leans against the wall of the old bakery.",
        "garden": "Please water the tomatoes in the garden before noon.",
        "harbour": "The ferry leaves the harbor at seven in the morning.",
        "kitchen": "She baked bread in the kitchen and opened the window.",
        "library": "The library closes early on Friday because of the concert.",
        "museum": "The museum shows paintings of ships and sailors.",
        "storm": "Heavy rain and thunder are expected in the mountains tonight.",
        "train": "Passengers for London should change at the next station.",
    }
)
"""What is said, by name. No two share a word that somebody would search for."""


def spoken(name: str) -> NDArray[np.float32]:
    """Return (N,) float32 samples in [-1, 1] at `types.SOUND_RATE` of one of `SENTENCES`."""
    import av

    with av.open(str(_FOLDER / f"{name}.ogg")) as media:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        frames = [f for frame in media.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def spoken_at(times_s: Mapping[str, float], seconds: float) -> NDArray[np.float32]:
    """Return (N,) samples of silence with the sentences named from their times on."""
    sound = np.zeros(round(seconds * SOUND_RATE), np.float32)
    for name, time_s in times_s.items():
        said, first = spoken(name), round(time_s * SOUND_RATE)
        sound[first : first + len(said)] += said[: len(sound) - first]
    return sound
