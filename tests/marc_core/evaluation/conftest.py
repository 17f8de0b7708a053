"""A seeded encoder and footage for evaluation tests: small, real arrays, no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.variants.footage import Footage


class ColourEncoder:
    """A DualEncoder of three channels: a frame's mean colour, a text's colour word."""

    dim = 3
    fingerprint = "0123456789ab"
    hit_margin = 0.15
    words = ("red", "green", "blue")

    def encode_images(self, frames_NHWC: np.ndarray) -> np.ndarray:
        means = frames_NHWC.astype(np.float32).mean((1, 2)) + 1e-3
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([[float(w in t) + 1e-3 for w in self.words] for t in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class ColourLoader:
    """Videos of four one-colour events of four seconds each, with a little texture; 84 x 84
    pixels are nine tokens of the tiny preset."""

    colours = ((200, 10, 10), (10, 200, 10), (10, 10, 200), (90, 90, 90))

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.broken = broken
        self.loaded: list[str] = []

    def exists(self, path: str) -> bool:
        return not path.startswith("missing")

    def load(self, path: str) -> Footage:
        from marc_core.errors import UnreadableVideoError

        self.loaded.append(path)
        if path in self.broken:
            raise UnreadableVideoError(f"'{path}' is broken.")
        seed = int(hashlib.sha256(path.encode()).hexdigest()[:8], 16)
        noise = np.random.default_rng(seed).integers(0, 20, (16, 84, 84, 3), dtype=np.uint8)
        base = np.repeat(np.array(self.colours, np.uint8), 4, axis=0)[:, None, None]
        return Footage(
            video_id=path,
            uri=path,
            times_S=np.arange(16, dtype=np.float64),
            frames_SHWC=noise + base,
            spans=tuple((4.0 * i, 4.0 * i + 4) for i in range(4)),
            positions=tuple(np.arange(4 * i, 4 * i + 4) for i in range(4)),
            timings_s={"decode": 0.25},
        )


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def make_loader() -> Callable[..., ColourLoader]:
    return ColourLoader


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    def make(problem_id: str = "0", **changes: object) -> Sample:
        values: dict[str, object] = {
            "problem_id": problem_id, "benchmark": "world", "task": "colour",
            "problem": "what is the blue", "data_type": "video",
            "problem_type": "multiple choice", "options": ("A. red", "B. blue"),
            "solution": "B", "path": "one.mp4", "evidence": ((8.0, 12.0),),
            "tags": ("static", "names-one-event"),
        }  # fmt: skip
        return Sample(**values | changes)  # type: ignore[arg-type]

    return make
