"""A film of many scenes for tests of long recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.odd_times import COLOURS, write_film


def film(path: Path, seed: int = 0) -> Path:
    """Write 80 s of scenes of 0.6 to 9 s at 10 fps; black ones are short."""
    rng = np.random.default_rng(seed)
    names = [name for name in COLOURS if name != "black"]
    colours: list[str] = []
    while len(colours) < 800:
        last = colours[-1] if colours else None
        colours += [rng.choice([n for n in names if n != last])] * int(rng.integers(6, 90))
        if rng.random() < 0.2:
            colours += ["black"] * int(rng.integers(2, 12))
    return write_film(path, [str(c) for c in colours[:800]], fps=10)
