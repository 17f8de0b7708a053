"""Cells of `benchmarks.rl_worth`: train a student one way, measure it, keep the answers.

    sets (marc train-set) -> teacher's answers, once -> start -> train -> right or wrong, question
    by question -> <output>/cells/<name>.json

Everything runs in this process on one thread, with the parts that a Ray run is made of:
`jobs.training.asked` from questions to groups, `marc_core.rl.update.train_step`,
`marc_core.supervised`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from jobs.training.asked import (
    Answered,
    Asked,
    answered,
    can_be_judged,
    engine_requests,
    student_request,
    teacher_request,
)
from jobs.training.train_rows import TrainRows
from marc_core.config import MethodConfig, StudentConfig, load_config
from marc_core.evidence import Evidence
from marc_core.models.answering import answer_all
from marc_core.models.loading import load_model
from marc_core.models.policy import Drawn, Policy, freeze_vision
from marc_core.models.sampling import suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling
from marc_core.rl.config import CGrpoConfig
from marc_core.rl.group import Group, teaches
from marc_core.rl.guard import Guard
from marc_core.rl.judging import judge
from marc_core.rl.samples import TrainSample
from marc_core.rl.update import make_optimizer, train_step
from marc_core.scoring.options import ProblemType
from marc_core.supervised.packed_set import PackedSet, pack_set
from marc_core.supervised.run import ROWS_AT_ONCE
from marc_core.supervised.task import SupervisedTask, all_right
from marc_core.train_set.shards import read_samples
from marc_core.training.config import TrainConfig
from marc_core.training.loop import run_stage
from marc_core.training.optimizer import MuonAdamW

LONGEST = 16
"""Tokens of an answer at most."""
QUESTIONS = 32
"""Questions of a step, of every method."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A student to train. set: which questions. method: "start" trains nothing, "sft" learns right
    answers, "pseudo" the teacher's most common ones, all else is C-GRPO with `settings`.
    begin: name of the cell whose weights it starts from; empty: the teacher's. labelled: this many
    questions have a right answer (-1: all); "sft" sees those only, all others are unlabelled. rate:
    peak learning rate. steps: of `QUESTIONS` each. keep: others start from its weights. free:
    answers are written freely, and several wordings are right (`freely`)."""

    name: str
    set: str
    method: str
    seed: int
    rate: float
    steps: int
    begin: str = ""
    labelled: int = -1
    keep: bool = False
    free: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class Bench:
    """Sets, models and teacher's answers that cells share. folder: of everything that is kept.
    sets: name -> (training set, held-out set), addresses."""

    def __init__(self, folder: Path, sets: dict[str, tuple[str, str]]) -> None:
        self.folder, self.sets = folder, sets
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        method = load_config(MethodConfig, preset="tiny")
        self.teacher = _on_cpu(method.teacher_model())
        self._train: dict[str, tuple[list[TrainSample], TrainRows]] = {}

    @cached_property
    def files(self) -> StudentFiles:
        """Tokenizer and settings; of the shipped student, whose prompt the sets hold."""
        return StudentFiles(_on_cpu(load_config(MethodConfig, preset="tiny").student))

    def run(self, cell: Cell) -> dict[str, Any]:
        """Return a cell's result; what is there is not done again."""
        place = place_of(self.folder, cell)
        if place.is_file():
            return dict(json.loads(place.read_text()))
        torch.manual_seed(cell.seed)
        started = time.process_time()
        model = self._begin(cell)
        facts = self._train_cell(cell, model)
        cpu_s = time.process_time() - started
        measure = self.measure_free if cell.free else self.measure
        right, sources = measure(model, cell.set)
        if cell.keep:
            weights = {n: p.detach().contiguous() for n, p in model.named_parameters()}
            save_file(weights, place.with_suffix(".safetensors"))
        found = {
            **dataclasses.asdict(cell),
            "accuracy": float(right.mean()),
            "by_type": {s: float(right[sources == s].mean()) for s in sorted(set(sources))},
            "right": "".join("01"[int(x)] for x in right),
            "cpu_s": round(cpu_s, 1),
            **facts,
        }
        place.write_text(json.dumps(found) + "\n")
        return found

    def measure(self, model: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return of each held-out question whether greedy decoding answers it, and its type."""
        data = self._packed(f"test-{name}", read_samples(self.sets[name][1]))
        task = self._task(model, data)
        found: list[bool] = []
        sources: list[str] = []
        task.eval()
        with torch.no_grad():
            for start in range(0, data.num_rows, ROWS_AT_ONCE):
                batch = data.batch(range(start, min(start + ROWS_AT_ONCE, data.num_rows)))
                _, right_P = task.answers(batch)
                found += all_right(right_P, batch.question_P, len(batch.sources)).tolist()
                sources += [s.rsplit("/", 1)[-1] for s in batch.sources]
        return np.array(found), np.array(sources)

    def measure_free(self, model: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the same of answers that are written freely, by any of their right wordings."""
        config = load_config(CGrpoConfig, overrides=[f"rollout.max_tokens={LONGEST}"])
        greedy = Sampling(temperature=0, max_tokens=LONGEST)
        samples = [freely(s) for s in read_samples(self.sets[name][1])]
        right: list[bool] = []
        with TransformersEngine(self.teacher) as engine:
            _load(engine, model, 0)
            for at in range(0, len(samples), 64):
                part = samples[at : at + 64]
                given = [(str(i), s.evidence, greedy) for i, s in enumerate(part)]
                for sample, done in zip(
                    part, answer_all(engine, engine_requests(given)), strict=True
                ):
                    verdict = judge(sample, [done.text], config.reward)
                    right.append(verdict is not None and verdict.right[0])
        return np.array(right), np.array([s.source.rsplit("/", 1)[-1] for s in samples])

    def row_of(self, name: str) -> np.ndarray:
        """Return of each held-out question the row it stands in: questions about one video."""
        data = self._packed(f"test-{name}", read_samples(self.sets[name][1]))
        return np.repeat(np.arange(data.num_rows), data.questions_R)

    def samples(self, name: str) -> list[TrainSample]:
        """Return the questions of a training set, in its order."""
        if name not in self._train:
            address = self.sets[name][0]
            self._train[name] = (list(read_samples(address)), TrainRows(address, {}))
        return self._train[name][0]

    def said(self, name: str) -> dict[str, list[str]]:
        """Return the teacher's answers to a set's questions; asks for those that are missing."""
        place = self.folder / f"teacher-{name}.json"
        kept: dict[str, list[str]] = json.loads(place.read_text()) if place.is_file() else {}
        samples = self.samples(name)
        rows = self._train[name][1]
        todo = [
            Asked(position=i, row=i, sample=s) for i, s in enumerate(samples) if s.id not in kept
        ]
        if not todo:
            return kept
        config = load_config(CGrpoConfig, overrides=[f"rollout.max_tokens={LONGEST}"])
        each = config.rollout.teacher_answers
        with TransformersEngine(self.teacher) as engine:
            for at in range(0, len(todo), 16):
                part = todo[at : at + 16]
                given = [teacher_request(a, rows.teacher(a.row), config) for a in part]
                done = answer_all(engine, engine_requests(given))
                for number, asked in enumerate(part):
                    own = done[number * each : (number + 1) * each]
                    kept[asked.sample.id] = [c.text for c in own]
                if at % 320 == 0 or at + 16 >= len(todo):
                    place.write_text(json.dumps(kept))
        return kept

    def _begin(self, cell: Cell) -> Any:
        model, _, _ = load_model(self.teacher)
        if cell.begin:
            own = load_file(self.folder / "cells" / f"{cell.begin}.safetensors")
            model.load_state_dict(own, strict=False)
        freeze_vision(model)
        return model

    def _train_cell(self, cell: Cell, model: Any) -> dict[str, Any]:
        if cell.method == "start":
            return {}
        samples = self._chosen(cell)
        if cell.method in ("sft", "pseudo"):
            return self._supervised(cell, model, samples)
        return self._reinforced(cell, model, samples)

    def _chosen(self, cell: Cell) -> list[TrainSample]:
        """Return a cell's questions in the order of its seed; those beyond `labelled` lose their
        right answers."""
        samples = self.samples(cell.set)
        if cell.free:
            samples = [freely(s) for s in samples]
        order = np.random.default_rng([cell.seed, 7]).permutation(len(samples))
        if cell.labelled < 0:
            return [samples[i] for i in order]
        known = [samples[i] for i in order[: cell.labelled]]
        if cell.method == "sft":
            return known
        return [dataclasses.replace(samples[i], answers=()) for i in order[cell.labelled :]]

    def _supervised(self, cell: Cell, model: Any, samples: list[TrainSample]) -> dict[str, Any]:
        if cell.method == "pseudo":
            samples = self._pseudo(cell, samples)
        samples = samples[: cell.steps * QUESTIONS]
        data = self._packed(f"train-{cell.name}", samples)  # mixed videos: a row a question
        config = TrainConfig(seed=cell.seed, log_every=10**9, save_every=10**9)
        task = self._task(model, data)
        losses: list[float] = []
        run_stage(
            task, MuonAdamW(task, muon_scale=1.5, weight_decay=0.01), config,
            steps=cell.steps, peak=cell.rate, final=0.1, start=0,
            report=lambda _, m: losses.append(m["loss"]), save=lambda _: None,
        )  # fmt: skip
        return {"questions": len(samples), "loss": losses[-1]}

    def _pseudo(self, cell: Cell, samples: list[TrainSample]) -> list[TrainSample]:
        """Return the questions with the option that most of the teacher's answers name."""
        said = self.said(cell.set)
        config = CGrpoConfig().reward
        found = []
        for sample in samples:
            choices = sample.student_evidence().choices
            verdict = judge(sample, choices, config, teacher=said[sample.id], choices=choices)
            if verdict is not None and choices and max(verdict.scores) > 0:
                letter = chr(ord("A") + verdict.scores.index(max(verdict.scores)))
                found.append(dataclasses.replace(sample, answers=(letter,)))
        return found

    def _reinforced(self, cell: Cell, model: Any, samples: list[TrainSample]) -> dict[str, Any]:
        base = load_config(
            CGrpoConfig,
            overrides=[
                f"steps={cell.steps}", f"rollout.max_tokens={LONGEST}", "loss.kl=0",
                f"optimizer.learning_rate={cell.rate}", "optimizer.final_rate=0.1",
                *(f"{key}={value}" for key, value in cell.settings.items()),
            ],
        )  # fmt: skip
        policy = Policy(model, self.files.adapter, pad_id=self.files.tokenizer.pad_token_id)
        policy.train()
        optimizer, guard = make_optimizer(policy, base), Guard(base.guard)
        asked = self._asked(cell, samples, base)
        curve: list[dict[str, float]] = []
        scorer = self._scorer(cell, base)
        batches: deque[list[Group]] = deque()
        with TransformersEngine(self.teacher) as engine:
            for step in range(cell.steps + base.rollout.versions_behind):
                if step < cell.steps:
                    _load(engine, model, len(curve))
                    batches.append([scorer(a) for a in _drawn(engine, asked, base, step)])
                if step >= base.rollout.versions_behind:
                    groups, at = batches.popleft(), len(curve)
                    curve.append(train_step(policy, optimizer, groups, base, step=at, guard=guard))
        names = ("reward", "score", "eta", "r_c", "no_variance", "entropy")
        last = curve[-10:]
        means = {n: float(np.mean([m[n] for m in last if n in m] or [np.nan])) for n in names}
        return {"questions": cell.steps * QUESTIONS, "last_steps": means}

    def _scorer(self, cell: Cell, config: CGrpoConfig) -> Callable[[Answered], Group]:
        """Return a function that adds to a group what the teacher thinks of each of its tokens,
        where that is asked for."""
        if not config.loss.distillation_weight:
            return lambda answered: answered.group
        model, _, _ = load_model(self.teacher)
        teacher = Policy(model, self.files.adapter, pad_id=self.files.tokenizer.pad_token_id)
        place = {s.id: i for i, s in enumerate(self.samples(cell.set))}
        rows = self._train[cell.set][1]

        def scored(answered: Answered) -> Group:
            group = answered.group
            evidence = Evidence.from_bytes(rows.teacher(place[answered.asked.sample.id]))
            drawn = Drawn(evidence=evidence, completions=group.completions, record=group.record)
            found = teacher.distributions([drawn], config.loss.teacher_tokens)
            return dataclasses.replace(group, teacher=tuple(found))

        return scored

    def _asked(
        self, cell: Cell, samples: list[TrainSample], config: CGrpoConfig
    ) -> Iterator[Asked]:
        """Yield questions that can be judged, for ever; as many passes as that takes."""
        said = self.said(cell.set)
        position = 0
        while True:
            for row, sample in enumerate(samples):
                texts = tuple(said[sample.id])
                asked = Asked(position=position, row=row, sample=sample, texts=texts)
                position += 1
                if can_be_judged(asked, config):
                    yield asked

    def _packed(self, name: str, samples: Any) -> PackedSet:
        return pack_set(samples, self.files, self.folder / "packed" / name, name=name)

    def _task(self, model: Any, data: PackedSet) -> SupervisedTask:
        return SupervisedTask(
            model, data, suppressed_ids=suppressed_ids(model.config), questions_per_step=QUESTIONS
        )


def place_of(folder: Path, cell: Cell) -> Path:
    """Return where a cell's result lies below the folder of all."""
    return folder / "cells" / f"{cell.name}.json"


def is_there(folder: Path, cell: Cell) -> bool:
    """Return whether a cell was done before."""
    return place_of(folder, cell).is_file()


def freely(sample: TrainSample) -> TrainSample:
    """Return a question whose answer is written freely: the right option's words, its letter and
    both are right. Its prompt still lists the options."""
    evidence = dataclasses.replace(sample.student_evidence(), choices=())
    answers = sample.answers
    if sample.problem_type == "multiple choice" and answers:
        letter = answers[0]
        text = sample.question.options[ord(letter) - ord("A")]
        answers = (text, letter, f"{letter}. {text}")
    kind: ProblemType = (
        "free-form" if sample.problem_type == "multiple choice" else sample.problem_type
    )
    return dataclasses.replace(
        sample, problem_type=kind, answers=answers, evidence=evidence.to_bytes()
    )


def _drawn(
    engine: TransformersEngine, asked: Iterator[Asked], config: CGrpoConfig, step: int
) -> list[Answered]:
    """Return a step's questions with answers; with dynamic sampling those whose answers differ in
    worth come first, as in `jobs.training.drawing`."""
    kept: list[Answered] = []
    spare: list[Answered] = []
    for _ in range(1 + config.rollout.refills * config.rollout.dynamic_sampling):
        part = [next(asked) for _ in range(QUESTIONS - len(kept))]
        made = _answers(engine, part, config, step)
        good = [True] * len(made)
        if config.rollout.dynamic_sampling:
            good = teaches([a.group for a in made], config.reward)
        kept += [a for a, ok in zip(made, good, strict=True) if ok]
        spare += [a for a, ok in zip(made, good, strict=True) if not ok]
        if len(kept) == QUESTIONS:
            break
    return (kept + spare)[:QUESTIONS]


def _answers(
    engine: TransformersEngine, part: Sequence[Asked], config: CGrpoConfig, step: int
) -> list[Answered]:
    given = [student_request(a, config, step) for a in part]
    done = answer_all(engine, engine_requests(given))
    G = config.rollout.answers
    return [answered(a, done[i * G : (i + 1) * G], config) for i, a in enumerate(part)]


def _load(engine: TransformersEngine, model: Any, version: int) -> None:
    own = {n: p.detach() for n, p in model.named_parameters() if "visual." not in n}
    asyncio.run(engine.load_weights(own, version))


def _on_cpu(model: StudentConfig) -> StudentConfig:
    return dataclasses.replace(model, device="cpu", dtype="float32")
