"""Resident memory while many videos are indexed: is it flat?

    python -m benchmarks.index_memory [--videos 200]

Indexes small world videos through the real pipeline and samples, once a second, the proportional
memory (PSS, shared pages counted once) of every process of the run. Reports the median of each
fifth of the time between the first and the last video, and the slope.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.clips import hardware
from benchmarks.processes import Sampled, descendants, pss_bytes
from jobs.common import ray_session
from marc_core.config import IndexConfig, load_config
from marc_core.world import WorldConfig, sample_video, write_mp4
from pipelines.index import index_archive


def memory_by_kind() -> dict[str, int]:
    """Return the PSS of this process and all below it, by kind of process."""
    totals: dict[str, int] = {}
    for pid, line in descendants().items():
        kind = _kind(line)
        totals[kind] = totals.get(kind, 0) + pss_bytes(pid)
    return totals


def _kind(line: str) -> str:
    for name in ("DecodeStage", "EncodeStage", "marc_core.video.child", "raylet", "gcs_server"):
        if name in line:
            return name
    return "other workers" if line.startswith("ray::") else "driver and rest"


class Watch(Sampled):
    """Samples of (seconds, videos done, memory by kind of process) while a `with` block runs."""

    interval_s = 1.0

    def __init__(self) -> None:
        self.samples: list[tuple[float, int, dict[str, int]]] = []
        self.done = 0

    def progress(self, done: int, *_: int) -> None:
        """Take note of how many videos are done."""
        self.done = done

    def look(self) -> None:
        """Take one sample."""
        self.samples.append((time.monotonic(), self.done, memory_by_kind()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "archive"
        archive.mkdir()
        config = WorldConfig(size_px=224, min_scenes=2, max_scenes=3, scene_lengths_s=(2.2, 4.0))
        for i in range(args.videos):
            write_mp4(sample_video(50_000 + i, config), archive / f"{i:04d}.mp4")
        index = load_config(
            IndexConfig,
            preset="tiny",
            overrides=[f"archive=['{archive}']", f"memory.uri='{scratch}/memory'"],
        )
        with ray_session(), Watch() as watch:
            report = index_archive(index, watch.progress)
    print(json.dumps(summary(watch.samples, report.to_json()), indent=2))


def summary(samples: list, report: dict) -> dict:
    """Medians by fifth of the run, in MiB, and the growth over the last three fifths."""
    working = [s for s in samples if 0 < s[1] < report["indexed"]]
    fifths = [working[len(working) * i // 5 : len(working) * (i + 1) // 5] for i in range(5)]
    kinds = sorted({k for _, _, totals in working for k in totals})

    def mib(part: list, kind: str) -> float:
        return round(statistics.median(t.get(kind, 0) for _, _, t in part) / 2**20, 1)

    total = np.array([sum(t.values()) for _, _, t in working]) / 2**20
    videos = np.array([n for _, n, _ in working])
    late = len(working) * 2 // 5
    slope = np.polyfit(videos[late:], total[late:], 1)[0] if len(set(videos[late:])) > 1 else 0.0
    return {
        "hardware": hardware(),
        "report": {k: report[k] for k in ("indexed", "failed", "events", "video_hours", "wall_s")},
        "total_mib_by_fifth": [
            round(statistics.median(sum(t.values()) for _, _, t in p) / 2**20, 1) for p in fifths
        ],
        "mib_by_fifth": {k: [mib(p, k) for p in fifths] for k in kinds},
        "slope_mib_per_100_videos_late": round(float(slope) * 100, 2),
    }


if __name__ == "__main__":
    main()
