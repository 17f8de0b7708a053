"""Long recordings: two hours on one core and on two, a kill in the middle, a day's memory by hour.

    python -m benchmarks.parts [--cells one_core,two_cores,killed,day] [--folder FOLDER]

Renders small pictures of a window in which little happens, with half a minute of short shots every
five minutes. Cells that benchmarks/results/parts.json holds already are left out; each runs in a
process and a Ray of its own, and is written when it is done.

Two hours (10 frames a second): wall-clock and CPU seconds of all processes; and how the decoding
was shared, as CPU seconds of each worker with its child. On a machine that is busy with other work
the last says what the first would say on a quiet one.
Killed: `kill -9` of the job when a third of the parts is published, then the job again.
A day (one frame a second): the highest private memory (RssAnon) of any process of each kind while
each hour was indexed, above what the kind needs at most for a clip of ten seconds; null where none
of the kind ran any more.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.clips import hardware, repeated, texture
from benchmarks.processes import TreeCpu, cpu_s, descendants, private_mib
from jobs.ray_session import ray_session
from marc_core.config import IndexConfig, MemoryConfig, load_config
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore
from pipelines.index import index_archive

RESULTS = Path(__file__).parent / "results" / "parts.json"
SIZE = (160, 90)
PART_S = 600.0
CELLS = ("one_core", "two_cores", "killed", "day")
DECODERS = ("DecodeStage", "marc_core.video.child")
KINDS = (*DECODERS, "EncodeStage", "Writer")


def render(path: Path, *, seconds: int, fps: int) -> Path:
    """Write a quiet window with a walker, and shots of 3 s in the last tenth of every 5 minutes."""
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    width, height = SIZE
    window = texture(rng, width, height)
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(seconds * fps):
            second, shown = i / fps, window.copy()
            if second % 300 >= 270:
                shot = np.random.default_rng(int(second) // 3)
                shown = np.roll(texture(shot, width, height), i % 50, 1)
            left = int(second * 2 % (width - 8))
            shown[40:60, left : left + 8] = 40
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.rename(path)
    return path


def archive(folder: Path, name: str, *, seconds: int, fps: int, times: int) -> Path:
    """Return a folder with one recording of `seconds` that comes so often."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    base = render(folder / f"{seconds}s_{fps}fps.mp4", seconds=seconds, fps=fps)
    return repeated(base, folder / name / "recording.mp4", times=times).parent


def settings(films: Path, memory: Path, *more: str) -> list[str]:
    """Return the settings of a run."""
    return [
        "text.speech=off", "text.writing=off", f"archive=['{films}']", f"memory.uri='{memory}'",
        "memory.store_features=false", *more,
    ]  # fmt: skip


class Watch(TreeCpu):
    """CPU seconds by process, and memory by kind and part, while a `with` block runs."""

    interval_s = 1.0

    def __init__(self) -> None:
        self.done = 0
        self.workers: dict[int, float] = {}
        self.peaks: dict[int, dict[str, float]] = {}

    def progress(self, done: int, *_: int) -> None:
        """Take note of how many rows are done."""
        self.done = done

    def look(self) -> None:
        """Take one sample."""
        super().look()
        peaks = self.peaks.setdefault(self.done, {})
        spent: dict[int, float] = {}
        for pid, line in descendants().items():
            kind = next((kind for kind in KINDS if kind in line), "others")
            peaks[kind] = max(peaks.get(kind, 0.0), private_mib(pid))
            if kind in DECODERS:
                owner = pid if kind == "DecodeStage" else _parent(pid)
                spent[owner] = spent.get(owner, 0.0) + cpu_s(pid)
        for owner, seconds in spent.items():
            self.workers[owner] = max(self.workers.get(owner, 0.0), seconds)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def index(films: Path, memory: Path, *more: str) -> dict[str, Any]:
    """Index in this process, on a Ray of its own; return what it cost."""
    config = load_config(IndexConfig, preset="tiny", overrides=settings(films, memory, *more))
    with ray_session("local"), Watch() as watch:
        started_s = time.perf_counter()
        report = index_archive(config, watch.progress)
        wall_s = time.perf_counter() - started_s
    assert (report.indexed, report.failed) == (1, 0), report
    (video,) = MemoryStore.open(MemoryConfig(uri=str(memory))).videos().to_pylist()
    return {
        "parts": video["num_parts"], "events": video["num_events"], "warnings": video["warnings"],
        "video_s": video["duration_s"], "wall_s": wall_s, "cpu_s": watch.seconds,
        "workers_cpu_s": sorted(watch.workers.values(), reverse=True), "peaks_mib": watch.peaks,
    }  # fmt: skip


def hours(folder: Path, scratch: Path, cores: int) -> dict[str, Any]:
    """Index two hours on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    films = archive(folder, "two_hours", seconds=600, fps=10, times=12)
    workers = f"decode_workers={cores}"
    found = index(films, scratch / "memory", f"video.part_s={PART_S}", workers)
    del found["peaks_mib"]
    return found | {"cores": cores}


def killed(folder: Path, scratch: Path) -> dict[str, Any]:
    """Kill a job with a third of its parts published, run it again; return what was done twice."""
    films = archive(folder, "two_hours", seconds=600, fps=10, times=12)
    memory = scratch / "memory"
    command = [sys.executable, "-m", "jobs.index", "--address", "local", "--preset", "tiny"]
    command += settings(films, memory, f"video.part_s={PART_S}")
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(done := _published(memory)) < 4:
        assert job.poll() is None, "the job ended before the kill"
        time.sleep(0.2)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    time.sleep(60)  # what is left of its Ray ends
    done = _published(memory)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = _published(memory)
    return {
        "parts": len(after),
        "published_before_the_kill": len(done),
        "done_again": sum(after[part] != moment for part, moment in done.items()),
    }


def _published(memory: Path) -> dict[int, Any]:
    """Return when each published part was, by number."""
    try:
        parts = MemoryStore.open(MemoryConfig(uri=str(memory))).parts()
    except MemoryStoreError:
        return {}
    return {
        row["part"]: row["updated_at"] for row in parts.to_pylist() if row["status"] == "indexed"
    }


def day(folder: Path, scratch: Path) -> dict[str, Any]:
    """Index 24 hours at one frame a second; return the memory by hour."""
    short = archive(folder, "short", seconds=10, fps=1, times=1)
    least = _highest(index(short, scratch / "memory-short")["peaks_mib"].values())
    films = archive(folder, "day", seconds=3600, fps=1, times=24)
    found = index(films, scratch / "memory")
    by_row = found.pop("peaks_mib")
    per_hour = found["parts"] / 24
    by_hour = [
        _highest(peaks for row, peaks in by_row.items() if hour <= (row - 1) / per_hour < hour + 1)
        for hour in range(24)
    ]
    return found | {
        "start_mib": {kind: round(mib) for kind, mib in least.items()},
        "above_start_mib_by_hour": {
            kind: [round(peaks[kind] - least[kind]) if kind in peaks else None for peaks in by_hour]
            for kind in KINDS
        },
    }


def _highest(samples: Any) -> dict[str, float]:
    highest: dict[str, float] = {}
    for peaks in samples:
        for kind, mib in peaks.items():
            highest[kind] = max(highest.get(kind, 0.0), mib)
    return highest


def run(cell: str, folder: Path) -> dict[str, Any]:
    """Return what a cell measured."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        if cell == "killed":
            return killed(folder, Path(name))
        if cell == "day":
            return day(folder, Path(name))
        return hours(folder, Path(name), {"one_core": 1, "two_cores": 2}[cell])


def summary(cells: dict[str, Any]) -> dict[str, Any]:
    """Return what two cores are worth: by the clock, by what each had to do."""
    if not {"one_core", "two_cores"} <= cells.keys():
        return {}
    one, two = cells["one_core"], cells["two_cores"]
    shared = two["workers_cpu_s"]
    return {
        "wall_ratio": one["wall_s"] / two["wall_s"],
        "cpu_ratio": two["cpu_s"] / one["cpu_s"],
        "decoding_divided_by_the_busiest": sum(shared) / shared[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--folder", type=Path, help="keep the videos here")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(run(args.run, args.folder)))
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cells": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        for cell in args.cells.split(","):
            if cell in known["cells"]:
                continue
            command = [sys.executable, "-m", "benchmarks.parts", "--run", cell]
            done = subprocess.run(
                [*command, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True
            )
            known["cells"][cell] = json.loads(done.stdout.splitlines()[-1])
            known |= {"hardware": hardware(), "gain": summary(known["cells"])}
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
