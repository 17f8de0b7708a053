"""A C-GRPO run from a configuration to a trained student: what the driver does.

check (files, models) -> room for the pools -> controller -> Ray Train (jobs.training.learner)
  -> export of the last checkpoint -> evaluation beside the start -> report
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jobs.training.cgrpo_config import CGrpoJobConfig
from jobs.training.comparison import compare_with_start
from jobs.training.controller import Controller
from jobs.training.export import export_student
from jobs.training.learner import learn
from jobs.training.lora import check_peft
from jobs.training.ray_train import check_largest, fit, missing, reserved
from jobs.training.run_report import write_report
from jobs.training.stores import opened
from jobs.training.trackers import check_trackers, forget_trackers
from jobs.training.train_rows import TrainRows
from marc_core.config import fingerprint
from marc_core.errors import ConfigError, TrainingError
from marc_core.models.loading import student_fingerprint
from marc_core.models.student_files import StudentFiles
from marc_core.training.session import read_checkpoint
from pipelines.watch import watching

Progress = Callable[[dict[str, Any]], None]
"""Called about once a second with `Controller.state`."""


def check(config: CGrpoJobConfig) -> TrainRows:
    """Return the training set, after all that can be checked without a cluster.

    Raises ConfigError, ModelLoadError, TrainingError.
    """
    if not config.train_set:
        raise ConfigError("train_set must name a training set: train_set=runs/train-set. Got none.")
    if config.learner.lora_rank:
        check_peft()
    check_trackers(config)
    rows = TrainRows(config.train_set, config.storage_options)
    student, sample = StudentFiles(config.student), rows.sample(0)
    evidence = sample.student_evidence()
    if evidence.vision_fingerprint != student.vision_fingerprint:
        raise ConfigError(
            f"The student must have the vision tower that the training set was made with, "
            f"{evidence.vision_fingerprint}. Got {student.vision_fingerprint}: write the set again "
            "with this student, or name the one that it was made with."
        )
    if config.teacher_pool.actors and not rows.has_teacher:
        raise ConfigError(
            "The training set must hold what the teacher reads (column `teacher`). Got "
            f"'{config.train_set}' without it: write it with store_teacher=true, or train without "
            "a teacher: teacher_pool.actors=0."
        )
    if config.loss.distillation_weight:
        teacher = StudentFiles(config.teacher_reader)
        if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
            raise ConfigError(
                "loss.distillation_weight needs a teacher with the student's tokens. Got "
                f"'{config.teacher_reader.model}', whose vocabulary is another."
            )
    return rows


def demand(config: CGrpoJobConfig) -> dict[str, list[dict[str, float]]]:
    """Return what a run asks Ray for, by who asks; one bundle an actor or worker."""
    worker = {"CPU": config.learner.cpus} | ({"GPU": 1.0} if config.use_gpu else {})
    pools = {"teacher": config.teacher_pool, "rollout": config.rollout_pool}
    found = {
        name: [{"CPU": pool.cpus} | ({"GPU": pool.gpus} if pool.gpus else {})] * pool.actors
        for name, pool in pools.items()
    }
    return found | {"learner": [worker] * config.num_workers}


def cpus_asked(config: CGrpoJobConfig) -> int:
    """Return the CPUs of a local Ray that holds the run."""
    return math.ceil(sum(b["CPU"] for own in demand(config).values() for b in own))


def train(config: CGrpoJobConfig, progress: Progress = lambda _: None) -> Path:
    """Run to the last step; return the folder of the trained student. Needs an initialised Ray.

    A run with the same output goes on from its last checkpoint. Raises MarcError for whatever the
    user can mend, TrainingError where the guard has stopped it.
    """
    import ray
    from ray.util import remove_placement_group
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    rows = check(config)
    placed = with_whole_paths(config)
    asked = demand(config)
    check_largest(
        [bundle for own in asked.values() for bundle in own],
        "The run (learner, teacher and rollout pools)",
        "Lower num_workers, the pools' actors or their cpus and gpus.",
    )
    room = reserved(asked["teacher"] + asked["rollout"], config.start_timeout_s)
    try:
        controller = _controller(placed, room)
        ray.get(controller.ready.remote())
        with watching(_Look(controller, config, progress)):
            result = fit(
                partial(_learn, controller=controller),
                placed,
                worker=asked["learner"][0],
                storage=opened(config.checkpoint_place, config.storage_options),
            )
        state = ray.get(controller.state.remote())
        ray.get(controller.close.remote())
        ray.kill(controller)
    finally:
        remove_placement_group(room)
    if state["stopped"]:
        raise TrainingError(state["stopped"])
    student = _export(config, result, len(rows))
    compared = compare_with_start(config, student) if config.evaluate_questions else None
    write_report(config, compared)
    return student


def with_whole_paths(config: CGrpoJobConfig) -> CGrpoJobConfig:
    """Return the configuration with local paths made absolute: actors work in other folders."""
    places = {
        name: value if not value or "://" in value else os.path.abspath(value)
        for name in ("output", "train_set", "checkpoints", "teacher_cache")
        for value in [getattr(config, name)]
    }
    models = {
        name: dataclasses.replace(part, model=os.path.abspath(part.model))
        for name in ("student", "teacher")
        for part in [getattr(config, name)]
        if part.model and os.path.isdir(part.model)
    }
    return dataclasses.replace(config, **places, **models)


def forget(config: CGrpoJobConfig) -> None:
    """Remove a run's checkpoints and curves; the teacher's answers stay."""
    store, path = opened(config.checkpoint_place, config.storage_options)
    from pyarrow.fs import FileType

    if store.get_file_info(path).type == FileType.Directory:
        store.delete_dir(path)
    for name in ("curves.jsonl", "samples.jsonl", "events.jsonl"):
        (Path(config.output) / name).unlink(missing_ok=True)
    forget_trackers(Path(config.output))
    shutil.rmtree(Path(config.output) / "tensorboard", ignore_errors=True)


def teacher_name(config: CGrpoJobConfig) -> str:
    """Return a fingerprint of the teacher and of how it is asked, for its cache."""
    asked = config.rollout
    how = (config.seed, asked.teacher_answers, asked.temperature, asked.max_tokens)
    return fingerprint(student_fingerprint(config.teacher_reader), how)


def _learn(config: CGrpoJobConfig, session: Any, *, controller: Any) -> None:
    learn(config, session, controller)


def _controller(config: CGrpoJobConfig, room: Any) -> Any:
    """Start the controller on this node: it writes to `output`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return (
        ray.remote(Controller)
        .options(
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=100,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        .remote(config, room, teacher_name(config))
    )


class _Look:
    """Passes on how far the run is; says so where no worker has been heard for long."""

    def __init__(self, controller: Any, config: CGrpoJobConfig, progress: Progress) -> None:
        self.controller, self.progress = controller, progress
        self.limit_s = self.patience_s = config.start_timeout_s
        self.bundles = demand(config)["learner"]

    def __call__(self) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            state = ray.get(self.controller.state.remote(), timeout=30)
        except RayError:  # the controller is being started again; the next look finds it
            return
        silent_s = state["silent_s"]
        if silent_s < self.limit_s:
            self.patience_s = self.limit_s
        elif silent_s > self.patience_s:
            self.patience_s += self.limit_s
            state["said"].append(
                f"No training worker has been heard for {silent_s:.0f} s: a step takes that long, "
                f"or Ray Train has no room to start it again. {missing(self.bundles, silent_s)}"
            )
        self.progress(state)


def _export(config: CGrpoJobConfig, result: Any, num_questions: int) -> Path:
    with result.checkpoint.as_directory() as folder:
        restored = read_checkpoint(Path(folder))
    return export_student(config, restored.weights, Path(config.output) / "student", num_questions)
