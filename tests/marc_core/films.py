"""A film of many scenes for tests of long recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.odd_times import COLOURS, write_film

FRAMES = 800


def film_colours(seed: int = 0) -> list[str]:
    """Return 800 frames of scenes of 6 to 90 frames; black ones are short."""
    rng = np.random.default_rng(seed)
    names = [name for name in COLOURS if name != "black"]
    colours: list[str] = []
    while len(colours) < FRAMES:
        last = colours[-1] if colours else None
        colours += [rng.choice([n for n in names if n != last])] * int(rng.integers(6, 90))
        if rng.random() < 0.2:
            colours += ["black"] * int(rng.integers(2, 12))
    return [str(c) for c in colours[:FRAMES]]


def film(path: Path, seed: int = 0, *, fps: int = 10, **written: Any) -> Path:
    """Write 80 s of scenes of 0.6 to 9 s at 10 fps; written: as of `write_film`."""
    return write_film(path, film_colours(seed), fps=fps, **written)
