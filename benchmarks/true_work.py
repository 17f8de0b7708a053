"""What the steps of `benchmarks.true_shape` share: places, settings, one batch to train on."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from jobs.options import CONFIGS_DIR
from jobs.training.cgrpo_config import CGrpoJobConfig
from jobs.training.learner import Line
from marc_core.config import StudentConfig, load_config
from marc_core.training.session import LocalSession
from marc_core.world import WorldConfig, make_questions, sample_video, write_mp4

SHALLOW_LAYERS = 1
BYTES_A_WEIGHT = 16
"""Of a weight that AdamW trains in float32: weight, gradient, two moments."""
ROWS = 2
ANSWERS, ANSWER_TOKENS = 2, 4
WORLD = WorldConfig(min_scenes=3, max_scenes=3, scene_lengths_s=(2.2,), size_px=252)
"""7 seconds; a pair of frames is 81 tokens, the mean of the paper."""
TRAINING = (
    "use_gpu=false", "num_workers=1", "steps=1", "save_every=1", "evaluate_questions=0",
    "learner={cpus: 0.6, sharded: false, lora_rank: 8, gradient_checkpointing: true}",
    "teacher_pool={actors: 1, cpus: 0.6, gpus: 0, questions_a_call: 1, calls: 1}",
    "rollout_pool={actors: 1, cpus: 0.6, gpus: 0, questions_a_call: 1, calls: 1}",
    f"rollout={{questions: 1, answers: {ANSWERS}, max_tokens: {ANSWER_TOKENS}}}",
    f"rollout.teacher_answers={ANSWERS}",
    "teacher_ahead=1", "call_timeout_s=3600", "start_timeout_s=1800", "optimizer.autocast=false",
    "loss={kl: 0.04, distillation_weight: 1.0}", "trackers=[]",
)  # fmt: skip
"""Beside `train_cgrpo_3b`. Answers of random weights are all wrong, and a group without a right
one teaches nothing: the teacher's distributions give the loss a gradient."""


@dataclass(frozen=True)
class Work:
    """Where everything lies."""

    directory: Path

    @property
    def student(self) -> Path:
        """The student of the true shape."""
        return self.directory / "student"

    @property
    def shallow(self) -> Path:
        """One of fewer layers, with the same vision tower."""
        return self.directory / "shallow"

    def settings(self) -> list[str]:
        """Return what every command is given."""
        return [f"student.model='{self.student}'", "encoder.model=preset:tiny",
                "student.device=cpu", f"student.max_new_tokens={ANSWER_TOKENS}"]  # fmt: skip

    @property
    def questions(self) -> Path:
        """Rows in the form of Video-R1's files, for training and evaluation alike."""
        return self.directory / "questions.json"

    @cached_property
    def videos(self) -> Path:
        """A folder with a clip; `questions` are about it."""
        folder = self.directory / "videos"
        if not (folder / "clip.mp4").is_file():
            video = sample_video(1, WORLD)
            write_mp4(video, folder / "clip.mp4")
            asked = [q for q in make_questions(video, seed=0) if q.options][:ROWS]
            rows = [
                {
                    "problem_id": number,
                    "problem": question.text,
                    "data_type": "video",
                    "problem_type": "multiple choice",
                    "options": [f"{'ABCD'[i]}. {o}" for i, o in enumerate(question.options)],
                    "solution": f"<answer>{question.answer}</answer>",
                    "path": "./clip.mp4",
                    "data_source": "world",
                }
                for number, question in enumerate(asked)
            ]
            self.questions.write_text(json.dumps(rows))
        return folder

    def training(self, *more: str) -> CGrpoJobConfig:
        """Return the configuration of training."""
        return load_config(
            CGrpoJobConfig,
            preset="qwen2.5-vl-3b",
            files=[CONFIGS_DIR / "train_cgrpo_3b.yaml"],
            overrides=[*self.settings(), *self.training_settings(), *more],
        )

    def training_settings(self) -> list[str]:
        """Return what `marc train` is given besides."""
        return [*TRAINING, f"train_set='{self.directory}/train-set'",
                f"output='{self.directory}/learner'"]  # fmt: skip

    def plain(self) -> StudentConfig:
        """Return the student's section."""
        return StudentConfig(model=str(self.student), device="cpu")

    def keep(self, name: str, value: Any) -> None:
        """Leave something for a later step."""
        with (self.directory / f"{name}.pickle").open("wb") as file:
            pickle.dump(value, file)

    def kept(self, name: str) -> Any:
        """Return what an earlier step left."""
        with (self.directory / f"{name}.pickle").open("rb") as file:
            return pickle.load(file)


class Phases:
    """Seconds of the parts of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.seconds[name] = {
            "wall_s": round(time.monotonic() - wall, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
        }


class OneBatch(Line):
    """Gives a learner one batch, and takes what it publishes."""

    def __init__(self, group: Any) -> None:
        self.group, self.published = group, dict[str, float]()
        self.published_at = 0.0

    def ask(self, method: str, *args: Any) -> Any:
        from jobs.training.controller import Share

        if method == "batch":
            return Share(groups=[self.group], position=1)
        if method == "publish":
            self.published, self.published_at = args[2], time.monotonic()
        if method == "stop":
            raise SystemExit(args[0])
        return None

    def put(self, value: Any) -> Any:
        return value


class Kept(LocalSession):
    """One folder, this process."""

    def __init__(self, output: Path) -> None:
        super().__init__(output, torch.device("cpu"))


def same(a: Any, b: Any) -> bool:
    """Whether two nested values hold equal tensors and numbers."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def changed(before: Path, after: Path) -> int:
    """Return how many tensors of two checkpoints differ."""
    from marc_core.models.weights import read_tensor, stored_tensors

    old = {t.name: t for t in stored_tensors(before)}
    new = {t.name: t for t in stored_tensors(after)}
    assert old.keys() == new.keys(), "the export has other tensors"
    return sum(not torch.equal(read_tensor(old[n]), read_tensor(new[n])) for n in old)


def marc(*arguments: str) -> None:
    """Run a `marc` command; what it prints goes where errors go."""
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    subprocess.run(command, check=True, stdout=sys.stderr)
