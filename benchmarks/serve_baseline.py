"""A question end to end, against the 64-frame baseline that decodes and encodes when it is asked.

    python -m benchmarks.serve_baseline [--videos 3] [--seconds 60] [--questions 24]
    python -m benchmarks.serve_baseline --true-shape DIR [--work FOLDER]

Both arms answer the same questions about the same videos with the same student, each in a process
of its own, warmed before: latency, visual tokens, and peak private memory of all its processes, in
all and above what the loaded models take before the first question.

    marc      search in the memory, stored features, one frame's tokens
    baseline  every sampled frame of the video (64 at most) decoded from the file and encoded,
              and all its tokens given to the student

--true-shape: the student has Qwen2.5-VL-3B's shape and random weights, written into DIR where it
holds none (7.5 GB). One question about a video of 64 frames of 252 x 252, 81 tokens a pair, the
paper's mean, answered in 8 tokens; each arm is warmed by a question about the video's first event.
The student's weights stay pages of its files, so resident memory is given beside private.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import hardware
from benchmarks.model_memory import write_checkpoint
from benchmarks.processes import Sampled, TreeCpu, descendants, private_mib, resident_mib
from benchmarks.questions import question
from jobs.common import ray_session
from marc_core.config import IndexConfig, load_config
from marc_core.world import WorldConfig, sample_video, write_mp4

WHOLE = ("compress.mode=none", "retrieve.k=64", "student.max_frames=64")
ARMS: dict[str, tuple[str, ...]] = {"marc": (), "baseline": WHOLE}
WARM = 2
RESULT = Path(__file__).parent / "results" / "serve_baseline.json"
TRUE_SHAPE = "true_shape"
"""Key of the result's other half, which a run of one half keeps."""
SAVED = ("p50_ms", "cpu_s", "visual_tokens", "peak_mib", "peak_above_idle_mib", "resident_mib")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked of which student. size_px: side of a frame; a pair of frames is a visual token
    for each 28 x 28 pixels. warm_s: seconds of the video that the first questions are about, 0 for
    all of it."""

    preset: str = "tiny"
    student: str = "preset:tiny"
    videos: int = 3
    seconds: int = 60
    questions: int = 24
    size_px: int = 112
    answer_tokens: int = 128
    threads: int = 1
    warm_s: float = 0.0

    def overrides(self) -> list[str]:
        """Return the settings of both arms."""
        return [f"student.model='{self.student}'", f"student.max_new_tokens={self.answer_tokens}",
                "encoder.model=preset:tiny"]  # fmt: skip


def true_shape(directory: str, size_px: int) -> Case:
    """Return what the true 3B shape is asked; as many threads as there are cores."""
    return Case(
        preset="qwen2.5-vl-3b",
        student=directory,
        videos=1,
        seconds=64,
        questions=1,
        size_px=size_px,
        answer_tokens=8,
        threads=os.cpu_count() or 1,
        warm_s=1.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--true-shape", metavar="DIR", help="a student of the 3B shape")
    parser.add_argument(
        "--size-px", type=int, default=252, help="with --true-shape: a frame's side"
    )
    parser.add_argument("--work", type=Path, help="keep videos and memory here for other runs")
    parser.add_argument("--arm", choices=list(ARMS), help="one arm alone, over what --work holds")
    args = parser.parse_args()
    case = Case(videos=args.videos, seconds=args.seconds, questions=args.questions)
    if args.true_shape:
        case = true_shape(args.true_shape, args.size_px)
    if args.arm:
        print(json.dumps(answered(str(args.work / "memory"), args.arm, case)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        found = compared(args.work or Path(scratch), case)
    kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result = joined(kept, found, true_shape=bool(args.true_shape))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def joined(kept: dict[str, Any], found: dict[str, Any], *, true_shape: bool) -> dict[str, Any]:
    """Return the whole result: what was found now, and the other half as it was."""
    if true_shape:
        return kept | {TRUE_SHAPE: found}
    return found | {k: v for k, v in kept.items() if k == TRUE_SHAPE}


def compared(folder: Path, case: Case) -> dict[str, Any]:
    """Return both arms' figures and what MARC saves. folder: with the case's memory, or empty."""
    if not (folder / "memory").is_dir():
        make_memory(folder, case)
    arms = {arm: in_a_process(arm, folder) for arm in ARMS}
    marc, baseline = arms["marc"], arms["baseline"]
    saved = {name: round(100 * (1 - marc[name] / baseline[name]), 1) for name in SAVED}
    return {"hardware": hardware(), "case": asdict(case), **arms, "saved_percent": saved}


def make_memory(folder: Path, case: Case) -> None:
    """Index videos of the world of about so many seconds."""
    from pipelines.index import index_archive

    if case.student != "preset:tiny" and not (Path(case.student) / "config.json").is_file():
        write_checkpoint(Path(case.student))
    (folder / "archive").mkdir(parents=True, exist_ok=True)
    scenes = round(case.seconds / 5)
    world = WorldConfig(
        min_scenes=scenes, max_scenes=scenes, scene_lengths_s=(4.0, 6.0), size_px=case.size_px
    )
    for i in range(case.videos):
        write_mp4(sample_video(61_000 + i, world), folder / "archive" / f"{i}.mp4")
    uri = folder / "memory"
    overrides = [f"archive=['{folder}/archive']", f"memory.uri='{uri}.new'", *case.overrides()]
    with ray_session():
        index_archive(load_config(IndexConfig, preset=case.preset, overrides=overrides))
    Path(f"{uri}.new").rename(uri)


def in_a_process(arm: str, folder: Path) -> dict[str, Any]:
    """Return what one arm found, with this program's own arguments."""
    command = [sys.executable, "-m", "benchmarks.serve_baseline", *sys.argv[1:]]
    command += ["--arm", arm, "--work", str(folder)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(result.stdout.splitlines()[-1]))


class Peak(Sampled):
    """Highest private and resident memory of this process and all below it, MiB, twenty times a
    second. Resident counts pages of files, too, those that processes share once for each."""

    interval_s = 0.05

    def __enter__(self) -> Peak:
        self.mib = self.resident_mib = 0.0
        self.look()
        self.idle_mib = self.mib
        super().__enter__()
        return self

    def look(self) -> None:
        """Take one sample."""
        pids = list(descendants())
        self.mib = max(self.mib, sum(map(private_mib, pids)))
        self.resident_mib = max(self.resident_mib, sum(map(resident_mib, pids)))


def answered(memory: str, arm: str, case: Case) -> dict[str, Any]:
    """Answer the questions, one after the other, about one video each."""
    import torch

    from marc_core.answer import Answerer
    from marc_core.question import EventFilter, Question
    from marc_core.session import open_session

    torch.set_num_threads(case.threads)
    session = open_session(memory, overrides=[*ARMS[arm], *case.overrides()])
    preparer = session.make_preparer(from_frames=arm == "baseline")
    answerer = Answerer(preparer, session.engine, session.config)
    hits = session.archive.events(EventFilter(), limit=10_000)
    videos = sorted({hit.video_id for hit in hits})

    def ask(number: int, until_s: float = 0.0) -> tuple[float, Any]:
        video = videos[number % len(videos)]
        only = EventFilter(video_ids=(video,), end_s=until_s or None)
        asked = Question(text=question(number), filter=only)
        started = time.perf_counter()
        (answer,) = answerer.answer([asked])
        return time.perf_counter() - started, answer

    for number in range(WARM):
        ask(number, case.warm_s)
    with Peak() as peak, TreeCpu() as cpu:
        done = [ask(number) for number in range(case.questions)]
    seconds = [s for s, _ in done]
    steps: dict[str, float] = {}
    for _, answer in done:
        for name, value in answer.timings_s.items():
            steps[name] = steps.get(name, 0.0) + 1000 * value / case.questions
    return {
        "questions": case.questions,
        "p50_ms": round(1000 * float(np.median(seconds)), 1),
        "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 1),
        "cpu_s": round((cpu.seconds - peak.looking_s) / case.questions, 2),
        "mean_ms_of_steps": {name: round(value, 1) for name, value in steps.items()},
        "visual_tokens": float(np.mean([answer.usage.visual_tokens for _, answer in done])),
        "source_tokens": float(np.mean([answer.usage.source_tokens for _, answer in done])),
        "prompt_tokens": float(np.mean([answer.usage.prompt_tokens for _, answer in done])),
        "answer_tokens": float(np.mean([answer.usage.generated_tokens for _, answer in done])),
        "peak_mib": round(peak.mib, 1),
        "peak_above_idle_mib": round(peak.mib - peak.idle_mib, 1),
        "resident_mib": round(peak.resident_mib, 1),
    }


if __name__ == "__main__":
    main()
