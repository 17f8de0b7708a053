"""A student from a preset, a local directory or the hub, and its fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from marc_core.config import StudentConfig, fingerprint
from marc_core.errors import ModelLoadError
from marc_core.models.adapters import make_adapter
from marc_core.models.checkpoints import local_directory, weights_digests
from marc_core.models.preprocess import pixel_settings
from marc_core.models.student import Student


def load_student(config: StudentConfig) -> Student:
    """Return the student that `config.model` names, in eval mode on `config.device`.

    Raises ModelLoadError when the directory or hub id cannot be loaded, or is of another family.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    directory = local_directory("student", config.model, config.revision)
    try:
        model_config = AutoConfig.from_pretrained(directory)
        make_adapter(model_config)  # refuses other families before the weights are read
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            directory, dtype=_dtype(config), use_safetensors=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelLoadError(
            f"Student '{config.model}' cannot be loaded from {directory}: {error}. It must hold "
            "config.json, tokenizer files and safetensors weights (save_pretrained)."
        ) from error
    _find_chat_template(tokenizer, directory)
    model = model.to(_device(config)).eval()
    return Student(
        model,
        tokenizer,
        config,
        fingerprint=student_fingerprint(config, directory),
        directory=directory,
    )


def student_fingerprint(config: StudentConfig, directory: Path | None = None) -> str:
    """Return 12 hex digits that change with weights, architecture or pixel settings.

    Cached features carry it. Settings that touch only text and positions, device and dtype are
    left out: they do not change what the vision tower computes beyond bf16's own error.
    """
    from transformers import AutoConfig

    directory = directory or local_directory("student", config.model, config.revision)
    stored = json.loads((directory / "config.json").read_text())
    stored.pop("transformers_version", None)
    pixels = pixel_settings(AutoConfig.from_pretrained(directory), directory)
    return fingerprint(stored, pixels, weights_digests(directory), config.frame_max_pixels)


def _find_chat_template(tokenizer: Any, directory: Path) -> None:
    """Take the template from chat_template.json where the tokenizer's own files have none."""
    path = directory / "chat_template.json"
    if tokenizer.chat_template is None and path.is_file():
        tokenizer.chat_template = json.loads(path.read_text())["chat_template"]


def _device(config: StudentConfig) -> torch.device:
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(config: StudentConfig) -> torch.dtype:
    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    return torch.bfloat16 if _device(config).type == "cuda" else torch.float32
