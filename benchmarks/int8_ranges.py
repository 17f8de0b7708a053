"""Measure the activations' ranges that the 8-bit shot detector needs, and write them down.

    python -m benchmarks.int8_ranges --clips FOLDER [--out marc_core/events/int8_ranges.json]

Runs the float32 network over pieces of every clip of the folder. A range is the least and the
greatest value seen, a tenth wider.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.shots import small_frames
from marc_core.config import EventConfig
from marc_core.errors import VideoError
from marc_core.events.quantized import RANGES_FILE, Ranges
from marc_core.events.transnet import TransNetV2
from marc_core.events.weights import load_transnet

PIECE, EVERY, SHORTEST, MARGIN = 60, 125, 50, 1.1


def wanted(network: TransNetV2) -> list[str]:
    """Return the modules whose outputs get codes: what enters and what is inside 8-bit stages."""
    names = []
    for i, stage in enumerate(network.stages[1:], start=1):
        branches = range(len(stage.first.spatial))
        names += [f"stages.{i - 1}", f"stages.{i}.first"]
        names += [f"stages.{i}.{b}.spatial.{j}" for b in ("first", "second") for j in branches]
    return names


def measure(network: TransNetV2, pieces: list[NDArray[np.uint8]]) -> Ranges:
    """Return the least and the greatest value of every wanted output; from 0 where a ReLU is."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    for name in wanted(network):
        network.get_submodule(name).register_forward_hook(
            lambda module, given, answer, name=name: seen[name].append(
                torch.stack(answer.aminmax())
            )
        )
    with torch.inference_mode():
        for piece in pieces:
            network.features(torch.from_numpy(piece), network.new_state(), last=True)
    ranges = {}
    for name, limits in seen.items():
        both = torch.stack(limits)
        low = min(0.0, both[:, 0].min().item()) if ".spatial." in name else 0.0
        ranges[name] = (round(low * MARGIN, 4), round(both[:, 1].max().item() * MARGIN, 4))
    return ranges


def read_pieces(clips: Path) -> tuple[list[NDArray[np.uint8]], int]:
    """Return runs of up to 60 small frames, 125 apart, of all clips, and how many clips."""
    pieces, used = [], 0
    for path in sorted(p for p in clips.iterdir() if p.is_file()):
        try:
            frames, _ = small_frames(path)
        except VideoError:
            continue
        found = [frames[i : i + PIECE] for i in range(0, len(frames), EVERY)]
        found = [piece for piece in found if len(piece) >= SHORTEST]
        pieces, used = pieces + found, used + bool(found)
    return pieces, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True, help="folder of real clips")
    parser.add_argument("--out", type=Path, default=RANGES_FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pieces, used = read_pieces(arguments.clips)
    if not pieces:
        raise SystemExit(
            f"--clips must hold a video of {SHORTEST} frames. Got '{arguments.clips}'."
        )
    ranges = measure(load_transnet(EventConfig(shot_precision="fp32")), pieces)
    measured = {"clips": used, "frames": sum(map(len, pieces)), "margin": MARGIN}
    text = json.dumps({"measured_on": measured, "ranges": ranges}, indent=1)
    arguments.out.write_text(text + "\n")
    print(f"{len(ranges)} ranges of {used} clips in {arguments.out}")


if __name__ == "__main__":
    main()
