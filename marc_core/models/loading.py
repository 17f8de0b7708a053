"""A student from a preset, a local directory or the hub, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from marc_core.config import PRESETS_DIR, StudentConfig, fingerprint
from marc_core.errors import ModelLoadError
from marc_core.models.adapters import make_adapter
from marc_core.models.preprocess import pixel_settings
from marc_core.models.student import Student

_WHOLE_FILE_BYTES = 256 * 1024**2
_SAMPLES, _SAMPLE_BYTES = 64, 64 * 1024
_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")


def load_student(config: StudentConfig) -> Student:
    """Return the student that `config.model` names, in eval mode on `config.device`.

    Raises ModelLoadError when the directory or hub id cannot be loaded, or is of another family.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    directory = student_directory(config)
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


def student_directory(config: StudentConfig) -> Path:
    """Return the local directory of the student's files, downloading a hub id when needed.

    Raises ModelLoadError with the remedy: train or pull the preset, correct the path, or connect.
    """
    name = config.model
    if name.startswith("preset:"):
        directory = PRESETS_DIR / name.removeprefix("preset:") / "student"
        if not (directory / "config.json").is_file():
            raise ModelLoadError(
                f"Preset student '{name}' must have files in {directory}. Found none. "
                "Reinstall the package with its weights, or set student.model to a directory."
            )
        return directory
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ModelLoadError(
            f"student.model must be preset:NAME, an existing directory or a hub id OWNER/NAME. "
            f"Got '{name}'."
        )
    return _hub_directory(name, config.revision)


def student_fingerprint(config: StudentConfig, directory: Path | None = None) -> str:
    """Return 12 hex digits that change with weights, architecture or pixel settings.

    Cached features carry it. Settings that touch only text and positions, device and dtype are
    left out: they do not change what the vision tower computes beyond bf16's own error. Weight
    files up to 256 MiB are hashed whole, larger ones by size, header and 64 samples (a fine-tuned
    copy differs nearly everywhere).
    """
    from transformers import AutoConfig

    directory = directory or student_directory(config)
    stored = json.loads((directory / "config.json").read_text())
    stored.pop("transformers_version", None)
    pixels = pixel_settings(AutoConfig.from_pretrained(directory), directory)
    weights = [_file_digest(path) for path in sorted(directory.glob("*.safetensors"))]
    return fingerprint(stored, pixels, weights, config.frame_max_pixels)


def _hub_directory(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelLoadError(
            f"Student '{name}' is neither in the local hub cache nor downloadable "
            f"({type(error).__name__}). Connect to the hub once, or copy the model's directory "
            "here and set student.model to its path, or use student.model=preset:tiny."
        ) from error


def _find_chat_template(tokenizer: Any, directory: Path) -> None:
    """Take the template from chat_template.json where the tokenizer's own files have none."""
    path = directory / "chat_template.json"
    if tokenizer.chat_template is None and path.is_file():
        tokenizer.chat_template = json.loads(path.read_text())["chat_template"]


def _file_digest(path: Path) -> str:
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_FILE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(str(size).encode())
        header_bytes = int.from_bytes(file.read(8), "little")
        digest.update(file.read(header_bytes))
        for i in range(_SAMPLES):
            file.seek(size * i // _SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _device(config: StudentConfig) -> torch.device:
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(config: StudentConfig) -> torch.dtype:
    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    return torch.bfloat16 if _device(config).type == "cuda" else torch.float32
