"""Whole training runs, in any session: the tiny student's curriculum and the dual encoder.

for stage in config.stages: task -> session.wrap -> run_stage -> session.save
rank 0, at the end: save_pretrained into `output`/student or `output`/encoder
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from marc_core.errors import ConfigError, ModelLoadError
from marc_core.models.checkpoints import without_bar
from marc_core.tiny.config import EncoderTrainConfig, SftConfig, StageConfig
from marc_core.tiny.contrastive import EncoderTask, encoder_recipe
from marc_core.tiny.models import (
    EncoderSize,
    StudentSize,
    build_encoder,
    build_student,
    save_encoder,
    save_student,
)
from marc_core.tiny.scenes import make_readers
from marc_core.tiny.tasks import LanguageTask, VisionTask
from marc_core.tiny.tokenizers import build_encoder_tokenizer, build_student_tokenizer
from marc_core.training.config import TrainConfig
from marc_core.training.loop import run_stage
from marc_core.training.optimizer import MuonAdamW
from marc_core.training.session import Restored, Session, Weights
from marc_core.world import vocabulary

EXTRA_WORDS = (
    "Describe the video Answer with the letter of the right option only What is are Which How "
    "user assistant"
)
"""Words of the prompts that the world itself does not use."""


def training_words() -> list[str]:
    """Return every word of world and prompts, each also capitalised and in lower case."""
    words = [*vocabulary(), *EXTRA_WORDS.split()]
    capital = [w.capitalize() for w in words if w.islower()]
    return [*words, *capital, *(w.lower() for w in words if len(w) > 1)]


def train_student(config: SftConfig, session: Session) -> None:
    """Run the stages of `config`; a restored run continues where its checkpoint was made.

    Raises ConfigError for unknown stage names, ModelLoadError for a bad `config.start`.
    """
    student, tokenizer = start_student(config)
    restored = session.restore()
    if restored is not None:
        _load(student, restored.weights)
    student.to(session.device)
    readers = make_readers(student.config.text_config.hidden_size)
    stages = _chosen(config)
    for index, stage in enumerate(stages):
        if restored is not None and index < restored.stage:
            continue
        student.requires_grad_(True)
        task: VisionTask | LanguageTask
        if stage.kind == "vision":
            task = VisionTask(student, tokenizer, stage)
        else:
            task = LanguageTask(student, tokenizer, stage, readers)
        train_stage(
            task,
            student,
            config,
            session,
            stage=(index, stage.name, stage.steps, stage.learning_rate),
            final=stage.final_rate,
            muon_scale=stage.muon_scale,
            restored=restored if restored and index == restored.stage else None,
        )
        if isinstance(task, VisionTask):
            task.finish(config.seed)
    if session.rank == 0:
        save_student(student.cpu(), tokenizer, Path(config.output) / "student")


def train_encoder(config: EncoderTrainConfig, session: Session) -> None:
    """Train the dual encoder; a restored run continues. Raises ModelLoadError for a bad start."""
    torch.manual_seed(config.seed)
    model, tokenizer = _start(config.start, _fresh_encoder)
    restored = session.restore()
    if restored is not None:
        _load(model, restored.weights)
    train_stage(
        EncoderTask(model, tokenizer, encoder_recipe(), config),
        model,
        config,
        session,
        stage=(0, "encoder", config.steps, config.learning_rate),
        muon_scale=config.muon_scale,
        restored=restored,
    )
    if session.rank == 0:
        save_encoder(model.cpu(), tokenizer, Path(config.output) / "encoder")


def start_student(config: SftConfig) -> tuple[Any, Any]:
    """Return (model, tokenizer): random by seed, or from the directory `config.start`."""
    torch.manual_seed(config.seed)
    return _start(config.start, _fresh_student)


def _fresh_student() -> tuple[Any, Any]:
    tokenizer = build_student_tokenizer(training_words())
    return build_student(tokenizer, StudentSize()), tokenizer


def _fresh_encoder() -> tuple[Any, Any]:
    size = EncoderSize()
    tokenizer = build_encoder_tokenizer(training_words(), size.max_text_tokens)
    return build_encoder(tokenizer, size), tokenizer


def _start(directory: str, fresh: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    if not directory:
        return fresh()
    from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoTokenizer

    try:
        kind = AutoConfig.from_pretrained(directory).model_type
        auto: Any = AutoModel if "vl" not in kind else AutoModelForImageTextToText
        with without_bar():
            model = auto.from_pretrained(directory, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"start must be a directory written by an earlier run. Got '{directory}': {error}"
        ) from error


def _chosen(config: SftConfig) -> list[StageConfig]:
    names = [s.name for s in config.stages]
    if unknown := sorted(set(config.only) - set(names)):
        raise ConfigError(f"only must hold names of stages ({', '.join(names)}). Got {unknown}.")
    return [s for s in config.stages if not config.only or s.name in config.only]


def train_stage(
    task: Any,
    model: nn.Module,
    config: TrainConfig,
    session: Session,
    *,
    stage: tuple[int, str, int, float],
    muon_scale: float,
    final: float = 0.1,
    restored: Restored | None,
) -> None:
    """Run one stage with its own optimiser. stage: index, name, steps, peak rate."""
    index, name, steps, peak = stage
    if restored is not None and hasattr(task, "heads"):
        heads = {k: v for k, v in restored.weights.items() if k.startswith("heads.")}
        task.load_state_dict(heads, strict=False)
    task.to(session.device)
    optimizer = MuonAdamW(task, muon_scale=muon_scale, weight_decay=config.weight_decay)
    if restored is not None:
        optimizer.load_state_dict(restored.optimizer)
    run_stage(
        task,
        optimizer,
        config,
        steps=steps,
        peak=peak,
        final=final,
        start=0 if restored is None else restored.step,
        report=lambda step, metrics: session.report(name, step, metrics),
        save=lambda step: session.save(index, step, _weights(model, task), optimizer.state_dict()),
        rank=session.rank,
        forward=session.wrap(task),
    )


def _weights(model: nn.Module, task: nn.Module) -> Weights:
    """Return the model's weights, tied ones once, and those of the task's own heads."""
    weights = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    weights |= {k: v for k, v in task.state_dict().items() if k.startswith("heads.")}
    return weights


def _load(model: Any, weights: Weights) -> None:
    own = {k: v for k, v in weights.items() if not k.startswith("heads.")}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected, "the checkpoint is of another model"
    assert set(missing) <= {"lm_head.weight"}, "the checkpoint is of another model"
    if missing:
        model.tie_weights()
