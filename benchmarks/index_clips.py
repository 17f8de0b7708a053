"""What indexing costs beside decoding and models, before and after in one run.

    git worktree add /tmp/before REVISION
    python -m benchmarks.index_clips --against /tmp/before > benchmarks/results/index_clips.json

Two archives: files without content, which cost nothing but the framework, and real clips of a
second. Each is indexed by both checkouts, a quarter of it first and then the whole, so that what a
job costs once (processes, imports, models) is taken off: a figure is the difference of both runs
over the difference in videos. The shot detector is replaced by one that finds nothing, because its
second a clip would drown what is measured. `decode_and_models_ms` is the same clips through
`decode_video` and `encode_video` in one process, without Ray; the framework is what is left of all
processes.

`--first N` measures what a job of N files costs before its first video is done; `--real FOLDER`
indexes real videos as they are, detector and all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLIP_S, FPS, SIZE = 1.0, 10, (160, 96)


def make_clips(folder: Path, count: int) -> None:
    """Write `count` clips of 16 different pictures; the bytes of each are its own, since files of
    the same bytes are decoded once."""
    from benchmarks.clips import render_clip

    originals = [
        render_clip(folder / f"clip{i:05d}.mp4", seconds=CLIP_S, seed=i, fps=FPS, size=SIZE)
        for i in range(min(16, count))
    ]
    for i in range(len(originals), count):
        copied = shutil.copyfile(originals[i % 16], folder / f"clip{i:05d}.mp4")
        with copied.open("ab") as file:
            file.write(struct.pack(">I4sQ", 16, b"free", i))  # a box that players pass over


def make_empty(folder: Path, count: int) -> None:
    """Write `count` files without content."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"empty{i:05d}.mp4").touch()


def driver_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def blind_detector() -> None:
    """Let every ShotDetector of this process look at nothing and find nothing."""
    import numpy as np

    from marc_core.events.shots import ShotDetector

    def start(self: Any, config: Any, device: str = "cpu") -> None:
        self.config, self.count = config, 0

    def reset(self: Any) -> None:
        self.count = 0

    def push(self: Any, frames_FHWC: Any) -> None:
        self.count += len(frames_FHWC)

    def finish(self: Any) -> Any:
        return np.zeros(self.count, np.float32), np.zeros(self.count, bool)

    methods = {"__init__": start, "reset": reset, "push": push, "finish_with_dark": finish}
    for name, method in methods.items():
        setattr(ShotDetector, name, method)


def index(archive: Path, cpus: int, kind: str = "index") -> dict[str, float]:
    """Index `archive` into a new memory with the checkout in the current folder; return costs.

    kind: index (blind), whole (as users index), first (blind, ends with the first video).
    """
    import logging

    import ray

    from benchmarks.processes import TreeCpu
    from marc_core.config import IndexConfig, load_config
    from pipelines.index import index_archive

    has_text = any(field.name == "text" for field in dataclasses.fields(IndexConfig))
    scratch = archive.parent if kind == "first" else None  # whoever made the archive cleans up
    with tempfile.TemporaryDirectory(dir=scratch) as memory:
        overrides = [f"archive=['{archive}']", f"memory.uri='{memory}/memory'"]
        if has_text:  # an older checkout knows none
            overrides += ["text.speech=off", "text.writing=off"]
        config = load_config(IndexConfig, preset="tiny", overrides=overrides)
        setup = {} if kind == "whole" else {"worker_process_setup_hook": blind_detector}
        ray.init(
            num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": os.getcwd()}, **setup},
        )  # fmt: skip
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        driver, started = driver_cpu_s(), time.perf_counter()
        found, indexed = 0, 0

        def cost() -> dict[str, float]:
            return {
                "videos": found, "indexed": indexed, "wall_s": time.perf_counter() - started,
                "driver_s": driver_cpu_s() - driver, "all_s": spent_s(tree),
            }  # fmt: skip

        def count(done: int, failed: int, total: int) -> None:
            nonlocal found, indexed
            found, indexed = total, done - failed
            if kind == "first" and done:  # an older checkout counts on a thread of its own
                print(json.dumps(cost()), flush=True)
                os._exit(0)

        with TreeCpu() as tree:
            index_archive(config, count)
            result = cost()
        ray.shutdown()
    return result


def spent_s(tree: Any) -> float:
    """Return what a TreeCpu has counted so far; an older checkout's cannot say it itself."""
    tree.look()
    looking_s: float = getattr(tree, "looking_s", 0.0)
    return sum(tree._last.values()) - sum(tree._first.values()) - looking_s


def alone(archive: Path) -> dict[str, float]:
    """Return CPU seconds of decoding and encoding `archive` in this process, no Ray, warm."""
    import torch

    from marc_core.config import IndexConfig, load_config
    from marc_core.embed import load_encoder
    from marc_core.events import ShotDetector
    from marc_core.indexing import decode_video
    from marc_core.video import IsolatedDecoder

    torch.set_num_threads(1)
    blind_detector()
    config = load_config(IndexConfig, preset="tiny", overrides=[])
    decoder, detector = IsolatedDecoder(config.video), ShotDetector(config.events)
    encode = encoder_of(config, load_encoder(config.encoder))
    paths = sorted(archive.glob("*.mp4"))
    encode(decode_video(str(paths[0]), decoder, detector))
    decoder.close()  # its child's seconds count once it has ended
    before = whole_cpu_s()
    decoder = IsolatedDecoder(config.video)
    for path in paths:
        encode(decode_video(str(path), decoder, detector))
    decoder.close()
    return {"videos": len(paths), "all_s": whole_cpu_s() - before}


def whole_cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return driver_cpu_s() + children.ru_utime + children.ru_stime


def encoder_of(config: Any, encoder: Any) -> Callable[[Any], None]:
    """Return what encodes a decoded video: the dual encoder, and the tower where it is stored."""
    from marc_core.models.vision_tower import VisionTower

    tower = VisionTower(config.student) if config.memory.store_features else None

    def encode(decoded: Any) -> None:
        encoder.encode_images(decoded.sampled_frames)
        if tower is not None:
            tower.encode_events([(decoded.sampled_frames, decoded.times_s[decoded.sampled_index])])

    return encode


def run(tree: Path, *arguments: str) -> dict[str, float]:
    """Run this file's `--one` with the checkout at `tree`."""
    environment = os.environ | {"PYTHONPATH": str(tree), "RAY_BACKEND_LOG_LEVEL": "fatal"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--one", *arguments],
        cwd=tree, env=environment, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def per_video_ms(few: dict[str, float], many: dict[str, float]) -> dict[str, float]:
    """Return milliseconds a video: the difference of two runs."""
    videos = many["videos"] - few["videos"]
    names = ("wall_s", "driver_s", "all_s")
    return {n.replace("_s", "_ms"): round(1e3 * (many[n] - few[n]) / videos, 2) for n in names}


def measure(trees: dict[str, Path], make: Any, count: int, folder: Path, cpus: int) -> Any:
    """Return the costs a video of both checkouts, measured in turns."""
    few, many = folder / "few", folder / "many"
    make(few, count // 4)
    make(many, count)
    result = {
        name: per_video_ms(
            run(tree, "index", str(few), str(cpus)), run(tree, "index", str(many), str(cpus))
        )
        for name, tree in trees.items()
    }
    return result, many


def with_ratios(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the figures of both checkouts, and before / after where there is a before."""
    if "before" not in found:
        return found
    before, after = found["before"], found["after"]
    ratios = {n: round(before[n] / after[n], 2) for n in after if after[n] > 0}
    return found | {"before/after": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000, help="0: none")
    parser.add_argument("--empty", type=int, default=2000, help="0: none")
    parser.add_argument("--first", type=int, default=0, help="files of a job; 0: none")
    parser.add_argument("--real", type=Path, help="a folder of real videos")
    parser.add_argument("--rounds", type=int, default=2, help="of --real")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--against", type=Path, help="another checkout: the `before`")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, archive = args.one[0], Path(args.one[1])
        cost = alone(archive) if kind == "alone" else index(archive, int(args.one[2]), kind)
        print(json.dumps(cost))
        return
    from benchmarks.clips import hardware

    trees = {"before": args.against.resolve()} if args.against else {}
    trees["after"] = ROOT
    result: dict[str, Any] = {"hardware": hardware(), "cpus": args.cpus}
    with tempfile.TemporaryDirectory() as scratch:
        if args.empty:
            empty, _ = measure(trees, make_empty, args.empty, Path(scratch) / "empty", args.cpus)
            result["empty_files"] = {"count": args.empty} | with_ratios(empty)
        if args.clips:
            clips, many = measure(trees, make_clips, args.clips, Path(scratch) / "clips", args.cpus)
            work = run(ROOT, "alone", str(many))
            plain_ms = round(1e3 * work["all_s"] / work["videos"], 2)
            for figures in clips.values():
                figures["framework_ms"] = round(figures["all_ms"] - plain_ms, 2)
            counted = {"count": args.clips, "decode_and_models_ms": plain_ms}
            result["clips"] = counted | with_ratios(clips)
        if args.first:
            make_empty(Path(scratch) / "first", args.first)
            once = {n: run(t, "first", str(Path(scratch) / "first"), str(args.cpus))
                    for n, t in trees.items()}  # fmt: skip
            result["until_the_first_video"] = {"files": args.first} | with_ratios(once)
        if args.real:
            rounds = [
                {
                    n: run(t, "whole", str(args.real.resolve()), str(args.cpus))
                    for n, t in trees.items()
                }
                for _ in range(args.rounds)
            ]
            result["real_videos"] = [with_ratios(once) for once in rounds]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
