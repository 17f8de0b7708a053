"""New weights for a loaded student: all of its language model, or a LoRA adapter.

The vision tower stays: evidence names the tower that made it, and a memory holds its features.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from marc_core.errors import ModelLoadError
from marc_core.models.weights import (
    read_tensor,
    stored_tensors,
    tensors_digest,
    tower_tensors,
)

_ADAPTER = "marc"


def update_weights(
    model: Any, weights: Path | Mapping[str, torch.Tensor], *, lora: bool, directory: Path
) -> None:
    """Give a loaded model new language weights; on an error it keeps the old ones.

    weights: a checkpoint's directory, or tensors by name. directory: the one the model was loaded
    from. Raises ModelLoadError for missing, unknown and misshapen tensors, and another tower.
    """
    if lora:
        _load_adapter(model, weights)
        return
    own = _language_parameters(model)
    if isinstance(weights, Path):
        _check_tower(weights, directory)
        stored = {t.name: t for t in stored_tensors(weights) if "visual." not in t.name}
        new: dict[str, Any] = {_own_name(name): tensor for name, tensor in stored.items()}
    else:
        tower = {
            n.partition("visual.")[2]: p for n, p in model.named_parameters() if "visual." in n
        }
        _check_same_tower(tower, weights)
        new = {_own_name(n): tensor for n, tensor in weights.items() if "visual." not in n}
    _check_names(own, new)
    with torch.no_grad():
        for name, parameter in own.items():
            tensor = new[name]
            parameter.copy_(tensor if isinstance(tensor, torch.Tensor) else read_tensor(tensor))


def weights_directory(
    weights: Path | Mapping[str, torch.Tensor], *, directory: Path, scratch: Path, tied: bool
) -> Path:
    """Return a directory with new language weights, for an engine that reads them from files.

    weights, directory: as in `update_weights`; tensors are written to `scratch` under the names of
    `directory`. tied: the model has no output weights of its own. Raises ModelLoadError as there.
    """
    own = {_own_name(t.name): t for t in stored_tensors(directory) if "visual." not in t.name}
    if tied:
        own.pop("lm_head.weight", None)
    if isinstance(weights, Path):
        check_weights(weights, directory=directory, tied=tied)
        return weights
    tower = {name: read_tensor(t) for name, t in tower_tensors(directory).items()}
    _check_same_tower(tower, weights)
    new = {_own_name(n): tensor for n, tensor in weights.items() if "visual." not in n}
    _check_names(own, new)
    whole = {own[n].name: t.detach().cpu().contiguous().clone() for n, t in new.items()}
    save_file(whole, scratch / "model.safetensors", metadata={"format": "pt"})
    return scratch


def check_weights(weights: Path, *, directory: Path, tied: bool, whole: bool = False) -> None:
    """Raise ModelLoadError unless these weights fit a student, as far as files tell.

    weights: a checkpoint's directory. directory, tied: as in `weights_directory`. whole: read every
    tensor of the language model, too, and refuse numbers that are not finite.
    """
    own = {_own_name(t.name): t for t in stored_tensors(directory) if "visual." not in t.name}
    if tied:
        own.pop("lm_head.weight", None)
    _check_tower(weights, directory)
    stored = [t for t in stored_tensors(weights) if "visual." not in t.name]
    _check_names(own, {_own_name(t.name): t for t in stored})
    for tensor in stored if whole else ():
        if not torch.isfinite(read_tensor(tensor)).all():
            raise ModelLoadError(
                f"New weights must be finite numbers. {tensor.name} in '{tensor.path}' holds "
                "others: the training that made it has diverged. Take an earlier checkpoint."
            )


def _language_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters by name; tied ones once."""
    return {n: p for n, p in model.named_parameters() if "visual." not in n}


def _own_name(name: str) -> str:
    """Return the name in the loaded model of a tensor as checkpoints and trainers name it."""
    for prefix in ("model.language_model.", "language_model.model.", "language_model.", "model."):
        if name.startswith(prefix):
            return "model.language_model." + name.removeprefix(prefix)
    return name


def _check_names(own: Mapping[str, Any], new: dict[str, Any]) -> None:
    if "lm_head.weight" not in own:
        new.pop("lm_head.weight", None)  # tied to the embeddings
    different = sorted(set(own) ^ set(new))
    if different:
        raise ModelLoadError(
            f"New weights must name every tensor of the language model. {len(different)} differ, "
            f"the first is {different[0]}. Send all of them, or a LoRA adapter with lora=True."
        )
    for name, parameter in own.items():
        if tuple(new[name].shape) != tuple(parameter.shape):
            raise ModelLoadError(
                f"New weights must have the model's shapes. {name} is {tuple(parameter.shape)}. "
                f"Got {tuple(new[name].shape)}."
            )


def _check_tower(weights: Path, directory: Path) -> None:
    has_tower = any("visual." in tensor.name for tensor in stored_tensors(weights))
    if has_tower and tensors_digest(tower_tensors(weights)) != tensors_digest(
        tower_tensors(directory)
    ):
        raise _another_tower()


def _check_same_tower(own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if "visual." not in name:
            continue
        mine = own.get(name.partition("visual.")[2])
        if mine is None or not torch.equal(mine, tensor.to(mine.device, mine.dtype)):
            raise _another_tower()


def _another_tower() -> ModelLoadError:
    return ModelLoadError(
        "New weights must have the vision tower that the engine reads features of. Got another "
        "one. Start an engine on the new checkpoint and index with it."
    )


def _load_adapter(model: Any, weights: Path | Mapping[str, torch.Tensor]) -> None:
    if importlib.util.find_spec("peft") is None:
        raise ModelLoadError(
            "A LoRA adapter needs the package peft, which is not installed: pip install peft. Or "
            "send all weights of the language model."
        )
    if not isinstance(weights, Path):
        raise ModelLoadError(
            "A LoRA adapter must be a directory with adapter_config.json (save_pretrained of "
            "peft). Got tensors, which do not say where they belong."
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        model.delete_adapter(_ADAPTER)
    try:
        model.load_adapter(str(weights), adapter_name=_ADAPTER)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadError(f"The LoRA adapter '{weights}' does not load: {error}") from error
    model.eval()
