"""A question end to end, against the 64-frame baseline that decodes and encodes when it is asked.

    python -m benchmarks.serve_baseline [--videos 3] [--seconds 60] [--questions 24]

Both arms answer the same questions about the same videos with the same student, each in a process
of its own, warmed by two questions: latency, visual tokens, and peak private memory of all its
processes, in all and above what the loaded models take before the first question.

    marc      search in the memory, stored features, one frame's tokens
    baseline  every sampled frame of the video (64 at most) decoded from the file and encoded,
              and all its tokens given to the student
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import hardware
from benchmarks.processes import Sampled, descendants, private_mib
from benchmarks.questions import question
from jobs.common import ray_session
from marc_core.config import IndexConfig, load_config
from marc_core.world import WorldConfig, sample_video, write_mp4

WHOLE = ("compress.mode=none", "retrieve.k=64", "student.max_frames=64")
ARMS: dict[str, tuple[str, ...]] = {"marc": (), "baseline": WHOLE}
WARM = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--arm", choices=list(ARMS), help="one arm alone, over --memory")
    parser.add_argument("--memory", help="of videos that are still there")
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(answered(args.memory, args.arm, args.questions)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        memory = args.memory or make_memory(Path(scratch), args.videos, args.seconds)
        arms = {arm: in_a_process(arm, memory, args.questions) for arm in ARMS}
    marc, baseline = arms["marc"], arms["baseline"]
    saved = {
        name: round(100 * (1 - marc[name] / baseline[name]), 1)
        for name in ("p50_ms", "visual_tokens", "peak_mib", "peak_above_idle_mib")
    }
    found = {"hardware": hardware(), "video_s": args.seconds, **arms, "saved_percent": saved}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def make_memory(folder: Path, videos: int, seconds: int) -> str:
    """Index videos of the world of about so many seconds; return the memory's folder."""
    from pipelines.index import index_archive

    (folder / "archive").mkdir()
    scenes = round(seconds / 5)
    world = WorldConfig(min_scenes=scenes, max_scenes=scenes, scene_lengths_s=(4.0, 6.0))
    for i in range(videos):
        write_mp4(sample_video(61_000 + i, world), folder / "archive" / f"{i}.mp4")
    memory = str(folder / "memory")
    overrides = [f"archive=['{folder}/archive']", f"memory.uri='{memory}'"]
    with ray_session():
        index_archive(load_config(IndexConfig, preset="tiny", overrides=overrides))
    return memory


def in_a_process(arm: str, memory: str, questions: int) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "benchmarks.serve_baseline", "--arm", arm, "--memory", memory,
        "--questions", str(questions),
    ]  # fmt: skip
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(result.stdout.splitlines()[-1]))


class Peak(Sampled):
    """Highest private memory of this process and all below it, MiB, twenty times a second."""

    interval_s = 0.05

    def __enter__(self) -> Peak:
        self.mib = 0.0
        self.look()
        self.idle_mib = self.mib
        super().__enter__()
        return self

    def look(self) -> None:
        """Take one sample."""
        self.mib = max(self.mib, sum(private_mib(pid) for pid in descendants()))


def answered(memory: str, arm: str, questions: int) -> dict[str, Any]:
    """Answer the questions, one after the other, about one video each."""
    import torch

    from marc_core.answer import Answerer
    from marc_core.question import EventFilter, Question
    from marc_core.session import open_session

    torch.set_num_threads(1)
    session = open_session(memory, overrides=ARMS[arm])
    preparer = session.make_preparer(from_frames=arm == "baseline")
    answerer = Answerer(preparer, session.engine, session.config)
    hits = session.archive.events(EventFilter(), limit=10_000)
    videos = sorted({hit.video_id for hit in hits})

    def ask(number: int) -> tuple[float, Any]:
        only = EventFilter(video_ids=(videos[number % len(videos)],))
        asked = Question(text=question(number), filter=only)
        started = time.perf_counter()
        (answer,) = answerer.answer([asked])
        return time.perf_counter() - started, answer

    for number in range(WARM):
        ask(number)
    with Peak() as peak:
        done = [ask(number) for number in range(questions)]
    seconds = [s for s, _ in done]
    steps: dict[str, float] = {}
    for _, answer in done:
        for name, value in answer.timings_s.items():
            steps[name] = steps.get(name, 0.0) + 1000 * value / questions
    return {
        "questions": questions,
        "p50_ms": round(1000 * float(np.median(seconds)), 1),
        "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 1),
        "mean_ms_of_steps": {name: round(value, 1) for name, value in steps.items()},
        "visual_tokens": float(np.mean([answer.usage.visual_tokens for _, answer in done])),
        "source_tokens": float(np.mean([answer.usage.source_tokens for _, answer in done])),
        "peak_mib": round(peak.mib, 1),
        "peak_above_idle_mib": round(peak.mib - peak.idle_mib, 1),
    }


if __name__ == "__main__":
    main()
