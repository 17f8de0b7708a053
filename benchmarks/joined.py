"""A video joined from shots with known transitions, and the score of a detector on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS = 320, 180, 25
TOLERANCE_FRAMES = 2
Frames = NDArray[np.uint8]
Kind = Literal["cut", "dissolve", "fade"]
MIXES: dict[str, tuple[Kind, ...]] = {
    "thirds": ("cut", "dissolve", "fade"),
    "half cuts": ("cut", "cut", "dissolve", "fade"),
}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A transition: the new shot begins to show at `first` and is alone from `end` on."""

    kind: Kind
    first: int
    end: int


def read_shots(folder: Path) -> list[Frames]:
    """Return the uncut stretches of every clip in `folder` as (F, 180, 320, 3) RGB.

    A clip is one shot, unless NAME.shots.json beside it lists [first, end) frame pairs.
    """
    shots = []
    for path in sorted(p for p in folder.iterdir() if p.suffix != ".json"):
        with av.open(str(path)) as container:
            video = container.decode(container.streams.best("video"))
            frames = np.stack(
                [f.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT) for f in video]
            )
        listed = path.with_name(path.name + ".shots.json")
        stretches = json.loads(listed.read_text()) if listed.exists() else [[0, len(frames)]]
        shots += [frames[first:end] for first, end in stretches]
    return shots


def join(
    shots: list[Frames], path: Path, *, pieces: int, seed: int, kinds: tuple[Kind, ...]
) -> list[Truth]:
    """Write an h264 file of `pieces` pieces of 30 to 60 frames; return its transitions.

    `kinds` are drawn from evenly. A fade goes to black and back.
    """
    rng = np.random.default_rng(seed)
    truths: list[Truth] = []
    before, out = -1, [np.zeros((0, HEIGHT, WIDTH, 3), np.uint8)]
    for i in range(pieces):
        choices = [s for s in range(len(shots)) if s != before]
        before = int(rng.choice(choices))
        piece = _piece(shots[before], int(rng.integers(30, 61)), rng)
        if i == 0:
            out.append(piece)
            continue
        kind = kinds[int(rng.integers(len(kinds)))]
        out[-1], between, piece = _transition(kind, out[-1], piece, rng)
        first = sum(len(p) for p in out)
        out += [between, piece]
        truths.append(Truth(kind=kind, first=first, end=first + len(between)))
    _write(np.concatenate(out), path)
    return truths


def _piece(shot: Frames, length: int, rng: np.random.Generator) -> Frames:
    """Return `length` consecutive frames; a shorter shot is played forward and back."""
    if len(shot) < length:
        there_and_back = np.concatenate([shot, shot[-2:0:-1]])
        return np.resize(there_and_back, (length, *shot.shape[1:]))
    start = int(rng.integers(len(shot) - length + 1))
    return shot[start : start + length]


def _transition(
    kind: Kind, a: Frames, b: Frames, rng: np.random.Generator
) -> tuple[Frames, Frames, Frames]:
    """Return (a without its tail, frames of the transition, b without its head)."""
    if kind == "cut":
        return a, a[:0], b
    n = int(rng.integers(8, 13)) if kind == "fade" else int(rng.integers(10, 21))
    n = min(n, len(a) - 1, len(b) - 1)
    share = np.linspace(0, 1, n + 2)[1:-1, None, None, None]
    if kind == "dissolve":
        between = (a[-n:] * (1 - share) + b[:n] * share).round().astype(np.uint8)
    else:
        black = np.zeros((int(rng.integers(3, 9)), *a.shape[1:]), np.uint8)
        out, into = a[-n:] * (1 - share), b[:n] * share
        between = np.concatenate([out.astype(np.uint8), black, into.astype(np.uint8)])
    return a[:-n], between, b[n:]


def _write(frames: Frames, path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())


def score(found: list[int], truths: list[Truth]) -> dict[str, object]:
    """Return F1 and what it is made of. `found`: first frames of shots, without frame 0.

    A boundary is right within a transition or `TOLERANCE_FRAMES` of it; each transition counts
    once, and so does each boundary.
    """
    left = sorted(found)
    hits: list[Truth] = []
    for truth in truths:
        low, high = truth.first - TOLERANCE_FRAMES, truth.end + TOLERANCE_FRAMES
        match = next((p for p in left if low <= p <= high), None)
        if match is not None:
            left.remove(match)
            hits.append(truth)
    kinds = sorted({t.kind for t in truths})
    by_kind = {
        k: f"{sum(t.kind == k for t in hits)}/{sum(t.kind == k for t in truths)}" for k in kinds
    }
    f1 = 2 * len(hits) / (len(truths) + len(found)) if truths or found else 1.0
    return {
        "f1": round(f1, 4),
        "precision": round(len(hits) / max(len(found), 1), 4),
        "recall": round(len(hits) / max(len(truths), 1), 4),
        "found": by_kind,
        "false_alarms": len(left),
    }
