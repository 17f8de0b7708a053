"""From a configuration to an encoder: preset, directory or hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from marc_core.config import PRESETS_DIR, EncoderConfig
from marc_core.embed.images import read_recipe
from marc_core.embed.protocol import DualEncoder
from marc_core.embed.transformers_encoder import TransformersEncoder
from marc_core.errors import ModelLoadError

FAMILIES = ("clip", "siglip", "siglip2", "vision-text-dual-encoder")
"""Values of `model_type` in config.json that are supported."""


def load_encoder(config: EncoderConfig) -> DualEncoder:
    """Load the dual encoder that `config.model` names, in inference mode.

    Raises ModelLoadError when the preset, directory or hub id cannot be loaded or is of a family
    that is not supported; the message names the remedy.
    """
    source = resolve_source(config.model)
    device = _device(config.device)
    dtype = _dtype(config.dtype, device)
    model, tokenizer = _load(source, config, dtype)
    directory = _local_directory(source, config)
    recipe = read_recipe(
        directory, family=model.config.model_type, vision_config=model.config.vision_config
    )
    return TransformersEncoder(
        model=model.to(device), tokenizer=tokenizer, recipe=recipe, batch_size=config.batch_size
    )


def resolve_source(model: str) -> str:
    """Return a directory for `preset:NAME`, else `model` itself."""
    if not model.startswith("preset:"):
        return model
    directory = PRESETS_DIR / model.removeprefix("preset:") / "encoder"
    if not (directory / "config.json").is_file():
        known = sorted(p.parent.parent.name for p in PRESETS_DIR.glob("*/encoder/config.json"))
        raise ModelLoadError(
            f"encoder.model '{model}' has no weights in this installation. "
            f"Presets with an encoder: {', '.join(known) or 'none'}."
        )
    return str(directory)


def _load(source: str, config: EncoderConfig, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    revision = config.revision
    try:
        model_config = AutoConfig.from_pretrained(source, revision=revision)
        if model_config.model_type not in FAMILIES:
            raise ModelLoadError(
                f"encoder.model must be of one of the families {', '.join(FAMILIES)}. "
                f"'{source}' is '{model_config.model_type}'."
            )
        model = AutoModel.from_pretrained(source, revision=revision, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, ImportError) as error:
        raise ModelLoadError(
            f"encoder.model '{source}' cannot be loaded: {str(error).splitlines()[0]} "
            "Without network access, download it elsewhere and give its directory, or use "
            "encoder.model=preset:tiny."
        ) from error
    return model, tokenizer


def _local_directory(source: str, config: EncoderConfig) -> Path:
    """Return the directory that holds the image processor's configuration."""
    if Path(source).is_dir():
        return Path(source)
    from transformers.utils.hub import cached_file

    path = cached_file(
        source,
        "preprocessor_config.json",
        revision=config.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(path).parent if path else Path(source)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype
