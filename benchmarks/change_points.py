"""Change points in uncut synthetic embeddings: F1 within 2 and 5 s, and CPU seconds.

    python -m benchmarks.change_points [--out FILE]

One hour at 1 fps for quality, ten hours for cost. A sequence is a common direction (embeddings
of one archive are never far apart), a topic that changes every 15 to 90 s, a slow random drift,
and autocorrelated noise of about 28 effective dimensions.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import hardware
from marc_core.config import EventConfig
from marc_core.events import change_points

D = 512
DRIFT_S = 600
"""Seconds after which the drift forgets where it was."""
CASES = {
    "white noise": {"noise": 0.4, "rho": 0.0, "topic": 0.5, "drift": 0.0},
    "drift": {"noise": 0.4, "rho": 0.0, "topic": 0.5, "drift": 0.02},
    "camera motion": {"noise": 0.3, "rho": 0.5, "topic": 0.5, "drift": 0.02},
    "slow motion": {"noise": 0.3, "rho": 0.8, "topic": 0.5, "drift": 0.02},
    "faint changes in slow motion": {"noise": 0.3, "rho": 0.8, "topic": 0.25, "drift": 0.02},
    "faint changes": {"noise": 0.4, "rho": 0.5, "topic": 0.3, "drift": 0.02},
}
PENALTIES = (1.0, 2.0, 3.0, 4.0, 6.0)


def embeddings(
    T: int, *, noise: float, rho: float, topic: float, drift: float, seed: int
) -> tuple[NDArray[np.float32], list[int]]:
    """Return ((T, D) embeddings, samples at which a topic begins)."""
    rng = np.random.default_rng(seed)
    cuts = np.cumsum(rng.integers(15, 91, T // 15))
    cuts = cuts[cuts < T - 5]
    topics = topic * rng.normal(size=(len(cuts) + 1, D)) / np.sqrt(D)
    x = topics[np.searchsorted(cuts, np.arange(T), side="right")]
    x += rng.normal(size=D) / np.sqrt(D)
    scale = np.sqrt(1 / np.arange(1, D + 1))
    innovations = rng.normal(size=(T, D)) * scale / np.linalg.norm(scale)
    state, wander = innovations[0], np.zeros(D)
    steps = rng.normal(size=(T, D)) / np.sqrt(D)
    for t in range(T):
        state = rho * state + np.sqrt(1 - rho**2) * innovations[t]
        wander = (1 - 1 / DRIFT_S) * wander + drift * steps[t]
        x[t] += noise * state + wander
    return x.astype(np.float32), cuts.tolist()


def f1(found: list[int], truth: list[int], tolerance: int) -> float:
    """Return F1; every true change and every found one counts once."""
    left, hits = sorted(found), 0
    for t in truth:
        match = next((p for p in left if abs(p - t) <= tolerance), None)
        if match is not None:
            left.remove(match)
            hits += 1
    return 2 * hits / max(len(found) + len(truth), 1)


def quality(case: dict[str, float], penalty: float, seeds: int = 2) -> dict[str, float]:
    """Return mean F1 at 2 and 5 s over one-hour sequences."""
    config = EventConfig(change_point_penalty=penalty)
    scores: dict[int, list[float]] = {2: [], 5: []}
    counts = []
    for seed in range(seeds):
        x, truth = embeddings(3600, **case, seed=seed)
        found = change_points(x, np.arange(3600.0), config)
        counts.append(len(found) / len(truth))
        for tolerance, values in scores.items():
            values.append(f1(found, truth, tolerance))
    return {
        "f1_at_2s": round(mean(scores[2]), 3),
        "f1_at_5s": round(mean(scores[5]), 3),
        "found_per_true": round(mean(counts), 2),
    }


def cost(hours: int) -> dict[str, float]:
    """Return the CPU seconds of one pass."""
    T = hours * 3600
    x, truth = embeddings(T, **CASES["drift"], seed=9)
    start = time.process_time()
    found = change_points(x, np.arange(float(T)), EventConfig())
    seconds = time.process_time() - start
    return {"hours": hours, "cpu_s": round(seconds, 2), "f1_at_5s": round(f1(found, truth, 5), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    default = EventConfig().change_point_penalty
    report = {
        "hardware": hardware(),
        "penalty": default,
        "one_hour": {name: quality(case, default) for name, case in CASES.items()},
        "mean_f1_at_5s_by_penalty": {
            str(p): round(mean(quality(c, p)["f1_at_5s"] for c in CASES.values()), 3)
            for p in PENALTIES
        },
        "cost": [cost(1), cost(10)],
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
