"""`marc index --estimate` against the run that it foretells.

    python -m benchmarks.estimate [ARCHIVE...] [--out FILE]

Without an archive five are rendered: a few long clips, a fixed camera, 60 frames a second, many
short clips, and sentences with a sign. Each is estimated, then indexed in one Ray for all; ratios
are estimate / measured: hours of video, CPU seconds of all processes below this one, wall-clock
seconds with Ray's start, bytes on disk. Starting actors and loading models costs the same CPU
seconds whatever there is to do, and an empty memory has its bytes, so those of indexing one clip of
four seconds are taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.clips import hardware, render_clip, render_fixed_camera, repeated, with_speech
from benchmarks.processes import TreeCpu
from jobs.common import ray_session
from jobs.estimate import cluster, wall_s
from marc_core.config import IndexConfig, load_config
from marc_core.estimate import estimate
from marc_core.types import VideoSource
from pipelines.index import index_archive, preview

SIGN = "PLATFORM 12 TO THE HARBOUR"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archives", nargs="*", type=Path)
    parser.add_argument("--folder", type=Path, help="keep what is rendered here")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = args.folder or scratch
        archives = args.archives or rendered(folder)
        spoken(folder / "least" / "clip.mp4", seconds=4.0)
        said = {path: foretold(of(path, scratch / f"memory-{path.name}")) for path in archives}
        started_s = time.perf_counter()
        with ray_session("local"):
            ray_s = time.perf_counter() - started_s
            least = indexed(of(folder / "least", scratch / "memory-least"))
            rows = {
                path.name: compared(
                    told, indexed(of(path, scratch / f"memory-{path.name}")), least, ray_s
                )
                for path, told in said.items()
            }
    report = {"hardware": hardware(), "least": least, "archives": rows}
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def rendered(root: Path) -> list[Path]:
    """Return the folders of five small archives."""
    edited, fixed, dense, short, said = (
        root / name for name in ("edited", "fixed", "dense", "short", "spoken")
    )
    for i in range(2):
        render_clip(edited / f"{i}.mp4", seconds=60, seed=i)
        render_clip(dense / f"{i}.mp4", seconds=30, seed=i, fps=60)
        spoken(said / f"{i}.mp4", seconds=60.0, seed=i)
    for i in range(12):
        render_clip(short / f"{i}.mp4", seconds=8, seed=i, size=(640, 360))
    minute = render_fixed_camera(root / "minute.mp4", seconds=60)
    fixed.mkdir(exist_ok=True)
    repeated(minute, fixed / "camera.mp4", times=4)
    return [edited, fixed, dense, short, said]


def spoken(path: Path, *, seconds: float, seed: int = 0) -> None:
    """Render a clip with sentences and a sign."""
    shown = path.parent.with_name(f"{path.parent.name}-without-sound") / path.name
    render_clip(shown, seconds=seconds, seed=seed, size=(640, 360), sign=SIGN)
    path.parent.mkdir(parents=True, exist_ok=True)
    with_speech(shown, path, seconds=seconds)


def of(archive: Path, memory: Path) -> IndexConfig:
    """Return the tiny preset's configuration for an archive."""
    overrides = [f"archive=['{archive}']", f"memory.uri='{memory}'"]
    return load_config(IndexConfig, preset="tiny", overrides=overrides)


def foretold(config: IndexConfig) -> dict[str, Any]:
    """Return the estimate, and how busy the machine was when it was made."""
    sources = [VideoSource.from_json(s) for s in preview(config).work["source"].to_pylist()]
    known = estimate(sources, config)
    return {
        "video_s": known.video_s,
        "cpu_s": known.cpu_s,
        "wall_s": wall_s(known, config, cluster("local")),
        "memory_bytes": known.memory_bytes,
        "stages": {
            "decode": known.decode_s,
            "shots": known.shots_s,
            "encode": known.encode_s,
            **known.texts_s,
        },
        "busy": known.busy,
    }


def indexed(config: IndexConfig) -> dict[str, float]:
    """Index, and return what it cost."""
    started_s = time.perf_counter()
    with TreeCpu() as cpu:
        report = index_archive(config)
    assert report.failed == 0, report
    files = Path(config.memory.uri).rglob("*")
    return {
        "video_s": report.video_hours * 3600,
        "cpu_s": cpu.seconds,
        "wall_s": time.perf_counter() - started_s,
        "memory_bytes": sum(f.stat().st_size for f in files if f.is_file()),
        "load": os.getloadavg()[0],
    }


def compared(
    said: dict[str, Any], measured: dict[str, float], least: dict[str, float], ray_s: float
) -> dict[str, Any]:
    """Return estimate, measurement and their ratio of one archive."""
    own = measured | {
        "cpu_s": measured["cpu_s"] - least["cpu_s"],
        "memory_bytes": measured["memory_bytes"] - least["memory_bytes"],
        "wall_s": measured["wall_s"] + ray_s,
    }
    names = ("video_s", "cpu_s", "wall_s", "memory_bytes")
    return {
        "estimate": _rounded(said),
        "measured": _rounded(own),
        "ratio": {name: round(said[name] / own[name], 2) for name in names},
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, dict) else round(value, 1)
        for name, value in values.items()
    }


if __name__ == "__main__":
    main()
