"""Encoding the short events of one video: one call of the vision tower for all, against one each.

    python -m benchmarks.encode_events [--events 60] > benchmarks/results/encode_events.json

Two frames an event at the tiny preset's size, its own tower, one thread; both ways in turns. The
results are compared: they must be the same to the bit. Figures are medians of CPU milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from benchmarks.clips import hardware
from marc_core.config import IndexConfig, load_config
from marc_core.models.vision_tower import VisionTower

FRAMES, SIDE, ROUNDS = 2, 84, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tower = VisionTower(load_config(IndexConfig, preset="tiny").student)
    rng = np.random.default_rng(0)
    events = [
        (rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8), np.arange(FRAMES) + 0.5)
        for _ in range(args.events)
    ]
    ways = {
        "one_call_each": lambda: [tower.encode_events([event])[0] for event in events],
        "one_call": lambda: tower.encode_events(events),
    }
    made = {name: encode() for name, encode in ways.items()}  # and warm
    pairs = zip(*made.values(), strict=True)
    same = all(torch.equal(a.groups_TPD, b.groups_TPD) for a, b in pairs)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, encode in ways.items():
            started = time.process_time()
            encode()
            times[name].append(1e3 * (time.process_time() - started))
    cpu_ms = {name: round(statistics.median(of_way), 1) for name, of_way in times.items()}
    result = {
        "hardware": hardware(),
        "events": args.events,
        "frames_per_event": FRAMES,
        "equal_to_the_bit": same,
        "cpu_ms": cpu_ms,
        "ratio": round(cpu_ms["one_call_each"] / cpu_ms["one_call"], 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
