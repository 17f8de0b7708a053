"""Frames of the shot detector's size: coloured textures that drift, cut hard at known frames."""

import numpy as np


def scenes(lengths, seed=0):
    """Return (F, 27, 48, 3) uint8: one drifting texture of its own colour per length."""
    rng = np.random.default_rng(seed)
    shots = []
    for i, length in enumerate(lengths):
        colour = np.eye(3)[i % 3] * 120 + 40
        coarse = colour + rng.uniform(-35, 35, (3, 7, 1))
        texture = np.kron(coarse, np.ones((9, 9, 1)))[:27].clip(0, 255).astype(np.uint8)
        shots += [texture[:, i // 4 % 15 : i // 4 % 15 + 48] for i in range(length)]
    return np.stack(shots)
