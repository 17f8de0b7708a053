"""What token-level memory costs: making an event's hierarchy, and cutting it for a question.

    python -m benchmarks.hierarchy [--rounds N]

make: one event at index time, random features with neighbours in time alike, for the tiny student
(9 tokens a group) and the shape of the 3B one (81 tokens of 2,048 channels, 30 groups = 60 s).
cut: choosing tokens of one question's three events at one frame's budget, features in memory, and
reading them from their rows' bytes. bytes: stored, beside all tokens and the paper's stage 1.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.clips import hardware
from marc_core.compress import CutTokens, Hierarchy, cut_events, event_hierarchy, stage1_target
from marc_core.config import CompressConfig
from marc_core.feature_rows import features_row, features_rows, read_features
from marc_core.types import EventFeatures

SHAPES = {"tiny": (12, (3, 3), 256), "3B": (30, (9, 9), 2048), "3B, 32 groups": (32, (9, 9), 2048)}
"""Groups, grid and channels of an event."""


def event(groups: int, grid_hw: tuple[int, int], dim: int, seed: int) -> EventFeatures:
    """Return features whose tokens change slowly from group to group."""
    generator = torch.manual_seed(seed)
    tokens = grid_hw[0] * grid_hw[1]
    steps = 0.3 * torch.randn(groups, tokens, dim, generator=generator)
    steps[0] = torch.randn(tokens, dim, generator=generator)
    return EventFeatures(
        groups_TPD=steps.cumsum(0).bfloat16(),
        grid_hw=grid_hw,
        times_T=2.0 * torch.arange(groups) + 0.5,
        num_source_groups=groups,
    )


def milliseconds(run: Callable[[], Any], rounds: int) -> float:
    """Return the median CPU milliseconds of a call."""
    run()
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(1000 * (time.process_time() - started))
    return round(median(times), 3)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Return the costs of one shape."""
    groups, grid_hw, dim = SHAPES[name]
    stored = CompressConfig().stored_tokens
    events = [event(groups, grid_hw, dim, seed) for seed in range(3)]
    trees: list[Hierarchy] = [event_hierarchy(e, max_tokens=stored) for e in events]
    rows = [features_rows(f"v:{i}", "v", "f", tree) for i, tree in enumerate(trees)]
    budget = grid_hw[0] * grid_hw[1]
    kept = stage1_target(groups, CompressConfig(mode="plain"))
    raw = features_row("v:0", "v", "f", events[0])

    def cut() -> CutTokens:
        return cut_events(trees, [1], budget)

    return {
        "make_ms": milliseconds(lambda: event_hierarchy(events[0], max_tokens=stored), rounds),
        "cut_ms": milliseconds(cut, 20 * rounds),
        "read_rows_ms": milliseconds(lambda: [read_features(r) for r in rows], 20 * rounds),
        "bytes": sum(len(row["data"]) for row in rows[0]),
        "bytes_of_first_row": len(rows[0][0]["data"]),
        "bytes_all_tokens": len(raw["data"]),
        "bytes_stage_1": len(raw["data"]) * kept // groups,
    }


def main() -> None:
    """Measure every shape on one thread and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    result = {"hardware": hardware(), "shapes": {n: measure(n, rounds) for n in SHAPES}}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
