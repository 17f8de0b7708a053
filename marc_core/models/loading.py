"""A whole student from a preset, a local directory or the hub, and its fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from marc_core.config import StudentConfig, fingerprint
from marc_core.errors import ModelLoadError
from marc_core.models.checkpoints import local_directory, weights_digests, without_bar
from marc_core.models.preprocess import pixel_settings
from marc_core.models.vision_tower import device_of, dtype_of, load_model_config


def load_model(
    config: StudentConfig, *, dtype: torch.dtype | None = None
) -> tuple[Any, torch.device, torch.dtype]:
    """Return (the whole model in eval mode, its device, its precision).

    dtype: in place of the configured precision. In the stored one (`weights.stored_dtype`), weights
    on a CPU are the files' own pages: processes share them, and only what is used is read.
    Raises ModelLoadError when the directory or hub id cannot be loaded, or is of another family.
    """
    from transformers import AutoModelForImageTextToText

    directory = local_directory("student", config.model, config.revision)
    load_model_config(directory, config.model)  # refuses other families before weights are read
    device, dtype = device_of(config), dtype or dtype_of(config, directory)
    try:
        with without_bar():
            model: Any = AutoModelForImageTextToText.from_pretrained(
                directory, dtype=dtype, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelLoadError(
            f"Student '{config.model}' cannot be loaded from {directory}: {error}. It must hold "
            "config.json, tokenizer files and safetensors weights (save_pretrained)."
        ) from error
    return model.to(device).eval(), device, dtype


def student_fingerprint(config: StudentConfig, directory: Path | None = None) -> str:
    """Return 12 hex digits that change with any weight, architecture or pixel settings.

    It names the results of an evaluation. Features of a memory are named by `vision_fingerprint`,
    which language weights do not change.
    """
    from transformers import AutoConfig

    directory = directory or local_directory("student", config.model, config.revision)
    stored = json.loads((directory / "config.json").read_text())
    stored.pop("transformers_version", None)
    pixels = pixel_settings(AutoConfig.from_pretrained(directory), directory)
    return fingerprint(stored, pixels, weights_digests(directory), config.frame_max_pixels)
