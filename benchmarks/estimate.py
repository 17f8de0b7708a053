"""`marc index --estimate` against the run that it foretells.

    python -m benchmarks.estimate [ARCHIVE...] [--out FILE]

Without an archive three are rendered: a few long clips, many short ones, and a fixed camera. Each
is estimated, then indexed in a Ray of its own; ratios are estimate / measured: hours of video, CPU
seconds of all processes below this one, wall-clock seconds with Ray's start, bytes on disk.
Starting actors and loading models costs the same CPU seconds whatever there is to do, so those
of indexing one clip of two seconds are taken off.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.clips import hardware, render_clip, render_fixed_camera
from benchmarks.processes import TreeCpu
from jobs.common import ray_session
from jobs.estimate import cluster, wall_s
from marc_core.config import IndexConfig, load_config
from marc_core.estimate import estimate
from marc_core.types import VideoSource
from pipelines.index import index_archive, preview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archives", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archives = args.archives or rendered(Path(scratch))
        render_clip(Path(scratch) / "warm" / "clip.mp4", seconds=2)
        rows = {path.name: compared(path, Path(scratch)) for path in archives}
    text = json.dumps({"hardware": hardware(), "archives": rows}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def rendered(root: Path) -> list[Path]:
    """Return the folders of three small archives."""
    long, short, fixed = root / "long", root / "short", root / "fixed"
    for i in range(3):
        render_clip(long / f"{i}.mp4", seconds=60, seed=i)
    for i in range(12):
        render_clip(short / f"{i}.mp4", seconds=8, seed=i, size=(640, 360))
    render_fixed_camera(fixed / "camera.mp4", seconds=150)
    return [long, short, fixed]


def compared(archive: Path, scratch: Path) -> dict[str, dict[str, float]]:
    """Return estimate, measurement and their ratio of one archive."""
    memory = scratch / f"memory-{archive.name}"
    config = of(archive, memory)
    sources = [VideoSource.from_json(s) for s in preview(config).work["source"].to_pylist()]
    known = estimate(sources, config)
    said = {
        "video_s": known.video_s,
        "cpu_s": known.cpu_s,
        "wall_s": wall_s(known, config, cluster("local")),
        "memory_bytes": known.memory_bytes,
    }
    started = time.perf_counter()
    with ray_session("local"):
        ray_s = time.perf_counter() - started
        least = indexed(of(scratch / "warm", scratch / f"warm-{archive.name}"), memory)
        measured = indexed(config, memory)
    measured["wall_s"] += ray_s
    measured["cpu_s"] -= least["cpu_s"]
    ratio = {name: round(said[name] / measured[name], 2) for name in said}
    return {
        "estimate": {name: round(value, 1) for name, value in said.items()},
        "measured": {name: round(value, 1) for name, value in measured.items()},
        "ratio": ratio,
    }


def of(archive: Path, memory: Path) -> IndexConfig:
    """Return the tiny preset's configuration for an archive."""
    overrides = [f"archive=['{archive}']", f"memory.uri='{memory}'"]
    return load_config(IndexConfig, preset="tiny", overrides=overrides)


def indexed(config: IndexConfig, memory: Path) -> dict[str, float]:
    """Index, and return what it cost."""
    started = time.perf_counter()
    with TreeCpu() as cpu:
        report = index_archive(config)
    assert report.failed == 0, report
    return {
        "video_s": report.video_hours * 3600,
        "cpu_s": cpu.seconds,
        "wall_s": time.perf_counter() - started,
        "memory_bytes": sum(f.stat().st_size for f in memory.rglob("*") if f.is_file()),
    }


if __name__ == "__main__":
    main()
