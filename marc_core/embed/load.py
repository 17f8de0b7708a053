"""From a configuration to an encoder, or to what a memory must know of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from marc_core.config import EncoderConfig, fingerprint
from marc_core.embed.margin import stored_settings
from marc_core.embed.protocol import DualEncoder, EncoderFacts
from marc_core.embed.recipe import ImageRecipe, read_recipe
from marc_core.errors import ModelLoadError
from marc_core.models.checkpoints import local_directory, weights_digests, without_bar

if TYPE_CHECKING:
    import torch

FAMILIES = ("clip", "siglip", "siglip2", "vision-text-dual-encoder")
"""Values of `model_type` in config.json that are supported."""


def load_encoder(config: EncoderConfig) -> DualEncoder:
    """Load the dual encoder that `config.model` names, in inference mode.

    Raises ModelLoadError when the preset, directory or hub id cannot be loaded or is of a family
    that is not supported; the message names the remedy.
    """
    from transformers import AutoModel, AutoTokenizer

    from marc_core.embed.transformers_encoder import TransformersEncoder

    directory = local_directory("encoder", config.model, config.revision)
    model_config, recipe = _read_config(directory)
    device = _device(config.device)
    try:
        with without_bar():
            model: Any = AutoModel.from_pretrained(
                directory, dtype=_dtype(config.dtype, device), use_safetensors=True
            )
        tokenizer = AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise _unloadable(directory, error) from error
    return TransformersEncoder(
        model=model.to(device),
        tokenizer=tokenizer,
        recipe=recipe,
        batch_size=config.batch_size,
        facts=_facts(directory, model_config, recipe),
    )


def encoder_facts(config: EncoderConfig) -> EncoderFacts:
    """Return the facts of the encoder that `config.model` names without building it.

    Raises ModelLoadError like `load_encoder`.
    """
    directory = local_directory("encoder", config.model, config.revision)
    return _facts(directory, *_read_config(directory))


def _read_config(directory: Path) -> tuple[Any, ImageRecipe]:
    from transformers import AutoConfig

    try:
        model_config = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(directory, error) from error
    if model_config.model_type not in FAMILIES:
        raise ModelLoadError(
            f"encoder.model must be of one of the families {', '.join(FAMILIES)}. "
            f"'{directory}' is '{model_config.model_type}'."
        )
    return model_config, read_recipe(
        directory, family=model_config.model_type, vision_config=model_config.vision_config
    )


def _facts(directory: Path, model_config: Any, recipe: ImageRecipe) -> EncoderFacts:
    stored = json.loads((directory / "config.json").read_text())
    stored.pop("transformers_version", None)
    return EncoderFacts(
        dim=_output_dim(model_config),
        fingerprint=fingerprint(stored, recipe, weights_digests(directory)),
        hit_margin=stored_settings(directory).hit_margin,
    )


def _output_dim(config: Any) -> int:
    """Return D, the channels of both towers' outputs."""
    for owner, name in ((config, "projection_dim"), (config.text_config, "projection_size")):
        if isinstance(getattr(owner, name, None), int):
            return int(getattr(owner, name))
    return int(config.text_config.hidden_size)


def _unloadable(directory: Path, error: Exception) -> ModelLoadError:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelLoadError(
        f"encoder.model '{directory}' cannot be loaded: {first_line} It must hold config.json, "
        "tokenizer files and safetensors weights (save_pretrained), or use "
        "encoder.model=preset:tiny."
    )


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype
