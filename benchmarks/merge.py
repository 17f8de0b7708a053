"""The merge as a plan against the paper's loop done literally, on one frame's worth of budget.

    python -m benchmarks.merge [--rounds N]

naive: cosines of all neighbours anew at every step. incremental: only those beside the last merge.
plan: `merge_plan` + `apply_plan`, which work on inner products. All three give the same result.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F

from benchmarks.clips import hardware
from marc_core.compress import apply_plan, merge_plan

TOKENS, DIM = 81, 2048
"""Tokens of a group at 252 x 252 pixels, and the width of the 3B student."""


def _cosine(a_PD: torch.Tensor, b_PD: torch.Tensor) -> float:
    return F.cosine_similarity(a_PD, b_PD, dim=-1).mean().item()


def naive(x_TPD: torch.Tensor) -> torch.Tensor:
    groups = list(x_TPD)
    while len(groups) > 1:
        similarity = [_cosine(a, b) for a, b in itertools.pairwise(groups)]
        i = max(range(len(similarity)), key=similarity.__getitem__)
        groups[i : i + 2] = [(groups[i] + groups[i + 1]) / 2]
    return torch.stack(groups)


def incremental(x_TPD: torch.Tensor) -> torch.Tensor:
    groups = list(x_TPD)
    similarity = [_cosine(a, b) for a, b in itertools.pairwise(groups)]
    while len(groups) > 1:
        i = max(range(len(similarity)), key=similarity.__getitem__)
        groups[i : i + 2] = [(groups[i] + groups[i + 1]) / 2]
        del similarity[i]
        for j in (i - 1, i):
            if 0 <= j < len(similarity):
                similarity[j] = _cosine(groups[j], groups[j + 1])
    return torch.stack(groups)


def plan(x_TPD: torch.Tensor) -> torch.Tensor:
    return apply_plan(merge_plan(x_TPD, 1), x_TPD)


def _milliseconds(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    started = time.process_time()
    run(x)
    return 1000 * (time.process_time() - started)


def measure(num_groups: int, rounds: int) -> dict[str, float]:
    """Return median CPU milliseconds of each way, the ratios, and the largest difference."""
    g = torch.Generator().manual_seed(num_groups)
    x_TPD = torch.randn(num_groups, TOKENS, DIM, generator=g).cumsum(0)
    ways = {"naive": naive, "incremental": incremental, "plan": plan}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            times[name].append(_milliseconds(run, x_TPD))
    cpu_ms = {name: median(values) for name, values in times.items()}
    return {
        "groups": num_groups,
        **{f"{name}_cpu_ms": round(ms, 1) for name, ms in cpu_ms.items()},
        "naive_over_plan": round(cpu_ms["naive"] / cpu_ms["plan"], 1),
        "incremental_over_plan": round(cpu_ms["incremental"] / cpu_ms["plan"], 1),
        "largest_relative_difference": float(
            (naive(x_TPD) - plan(x_TPD)).abs().max() / x_TPD.std()
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = [measure(num_groups, rounds) for num_groups in (8, 32, 64)]
    report = {
        "hardware": hardware(),
        "tokens": TOKENS,
        "dim": DIM,
        "dtype": "float32",
        "rows": rows,
    }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
