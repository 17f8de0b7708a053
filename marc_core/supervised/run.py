"""A whole supervised training, in any session.

training set --pack_set--> arrays --SupervisedTask--> run_stage --> session.save
every `validate_every` steps: accuracy on the validation set, by source of the questions
rank 0, at the end: `output`/student with tokenizer, settings and model card
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from marc_core.errors import ConfigError
from marc_core.models.loading import load_model
from marc_core.models.model_settings import model_settings, write_model_settings
from marc_core.models.sampling import suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.supervised.card import NAME, model_card
from marc_core.supervised.config import SupervisedConfig
from marc_core.supervised.packed_set import PackedSet, pack_set
from marc_core.supervised.task import SupervisedTask, all_right
from marc_core.train_set.shards import read_samples
from marc_core.training.loop import run_stage
from marc_core.training.optimizer import MuonAdamW
from marc_core.training.session import Restored, Session, Weights

STAGE = "supervised"
COPIED = (".json", ".jinja", ".txt", ".model")
"""Endings of a checkpoint's files beside its weights."""
ROWS_AT_ONCE = 64
"""Rows of a forward pass while accuracy is measured."""


def train_supervised(config: SupervisedConfig, session: Session) -> None:
    """Train a student on a set; a restored run continues where its checkpoint was made.

    Raises ConfigError where no set is named, ModelLoadError for the student, TrainingError for a
    set that it cannot learn from and where the loss is no number.
    """
    if not config.train_set:
        raise ConfigError(
            "train_set must be the folder of a training set. Got none: `marc train-set` writes one "
            "and prints its address."
        )
    torch.manual_seed(config.seed)
    files = StudentFiles(config.student)
    model = load_student(config)
    restored = session.restore()
    if restored is not None:
        load_weights(model, restored)
    model.to(session.device)
    data = open_set(config, config.train_set, files, session)
    held_out = None
    if config.validation_set:
        held_out = open_set(config, config.validation_set, files, session)
    task = make_task(model, data, config, size=session.size)
    optimizer = MuonAdamW(task, muon_scale=config.muon_scale, weight_decay=config.weight_decay)
    if restored is not None:
        optimizer.load_state_dict(restored.optimizer)

    def report(step: int, metrics: dict[str, float]) -> None:
        due = step % config.validate_every < config.log_every and step < config.steps
        if held_out is not None and due:
            found = accuracy(task, held_out)
            metrics = metrics | {f"held_out/{name}": value for name, value in found.items()}
        session.report(STAGE, step, metrics)

    run_stage(
        task,
        optimizer,
        config,
        steps=config.steps,
        peak=config.learning_rate,
        final=config.final_rate,
        start=0 if restored is None else restored.step,
        report=report,
        save=lambda step: session.save(0, step, trained_weights(model), optimizer.state_dict()),
        rank=session.rank,
        forward=session.wrap(task),
    )
    if session.rank == 0:
        found = {} if held_out is None else accuracy(task, held_out)
        card = model_card(
            config,
            questions=data.num_questions,
            held_out=found,
            held_out_size=0 if held_out is None else held_out.num_questions,
        )
        save_trained(model, files, config, card)


def make_task(
    model: Any, data: PackedSet, config: SupervisedConfig, *, size: int = 1
) -> SupervisedTask:
    """Return the task of a run."""
    return SupervisedTask(
        model,
        data,
        suppressed_ids=suppressed_ids(model.config),
        questions_per_step=config.questions_per_step,
        size=size,
    )


def load_student(config: SupervisedConfig) -> Any:
    """Return the student to start from, in float32. Raises ModelLoadError."""
    section = dataclasses.replace(config.student, dtype="float32", device="cpu")
    model, _, _ = load_model(section)
    return model


def open_set(
    config: SupervisedConfig, address: str, files: StudentFiles, session: Session
) -> PackedSet:
    """Return a set's arrays, made where this worker has none yet."""
    root = Path(config.packed or Path(config.output) / "packed")
    name = address.rstrip("/").rsplit("/", 1)[-1]
    folder = root / (name if session.rank == 0 else f"{name}-{session.rank}")
    return pack_set(read_samples(address), files, folder, name=address)


@torch.no_grad()
def accuracy(task: SupervisedTask, data: PackedSet) -> dict[str, float]:
    """Return the share of questions answered right by greedy decoding: overall, by source."""
    tally: dict[str, list[bool]] = defaultdict(list)
    task.eval()
    for start in range(0, data.num_rows, ROWS_AT_ONCE):
        batch = data.batch(range(start, min(start + ROWS_AT_ONCE, data.num_rows)))
        _, right_P = task.answers(batch)
        right_Q = all_right(right_P, batch.question_P, len(batch.sources)).tolist()
        for source, right in zip(batch.sources, right_Q, strict=True):
            tally[source.rsplit("/", 1)[-1]].append(right)
    task.train()
    every = [right for answers in tally.values() for right in answers]
    shares = {name: sum(v) / len(v) for name, v in sorted(tally.items())}
    return {"overall": sum(every) / len(every), **shares}


def trained_weights(model: Any) -> Weights:
    """Return the weights that training changes, tied ones once."""
    kept = {n for n, p in model.named_parameters() if p.requires_grad}
    return {n: w for n, w in model.state_dict().items() if n in kept}


def load_weights(model: Any, restored: Restored) -> None:
    """Take over what `trained_weights` returned."""
    _, unexpected = model.load_state_dict(restored.weights, strict=False)
    assert not unexpected, "the checkpoint is of another model"


def save_trained(model: Any, files: StudentFiles, config: SupervisedConfig, card: str) -> None:
    """Write `output`/student: weights in the precision of the student that it started from, model
    card, settings; other files as they were.

    Its vision tower is bit for bit the one that it started with.
    """
    directory = Path(config.output) / "student"
    directory.mkdir(parents=True, exist_ok=True)
    stored = files.model_config.dtype or torch.float32
    model.to("cpu", stored).save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    for path in files.directory.iterdir():
        if (
            path.suffix in (".json", ".jinja", ".txt", ".model")
            and not (directory / path.name).exists()
        ):
            shutil.copyfile(path, directory / path.name)
    settings = model_settings(files.directory)
    longest = config.max_seconds or settings.max_seconds
    write_model_settings(
        dataclasses.replace(settings, event_facts=config.event_facts, max_seconds=longest),
        directory,
    )
    (directory / NAME).write_text(card)
