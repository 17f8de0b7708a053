"""The vision tower alone: what indexing needs of a student, without its language model.

    frames of all events of a video --patches--> tower --> one EventFeatures an event

Only the tensors `visual.*` of the checkpoint are read, one after another, each straight into its
place: for Qwen2.5-VL-3B 0.7 of 3.8 billion parameters.

Letters: F frames, T temporal groups, P tokens of a group, D channels, L deepstack layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marc_core.config import StudentConfig, fingerprint
from marc_core.errors import ModelLoadError
from marc_core.models.adapters import make_adapter
from marc_core.models.checkpoints import local_directory
from marc_core.models.preprocess import frames_to_patches, group_times, pixel_settings
from marc_core.models.weights import (
    is_large,
    read_tensor,
    tensors_digest,
    tower_tensors,
)
from marc_core.types import EventFeatures

_PATCHES_PER_CALL = 65_536
"""Patches given to the vision tower at once (our choice: 64 frames at 128 tokens are 16,384)."""
_NOT_COMPUTED = ("transformers_version", "dtype", "torch_dtype", "_name_or_path", "architectures")
"""Entries of a configuration that do not change what the tower computes."""


class VisionTower:
    """The vision tower of a Qwen-VL checkpoint, in eval mode.

    Raises ModelLoadError when the checkpoint cannot be found, is of another family or has no tower.
    """

    def __init__(self, config: StudentConfig) -> None:
        directory = local_directory("student", config.model, config.revision)
        model_config = load_model_config(directory, config.model)
        self.config = config
        self.device, self.dtype = device_of(config), dtype_of(config, directory)
        self.pixels = pixel_settings(model_config, directory)
        self.fingerprint = vision_fingerprint(config, directory)
        self.adapter = make_adapter(model_config)
        self.visual = _load(model_config, directory, self.dtype).to(self.device).eval()

    @torch.inference_mode()
    def encode_events(
        self, events: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
    ) -> list[EventFeatures]:
        """Return the uncompressed features of events given as (frames (F, H, W, 3), times_s (F,)).

        Give all events of a video in one call. Each is its own grid row, so that its features do
        not depend on its neighbours. Features are on the tower's device in its precision.
        """
        return encode_events(
            self.visual, self.adapter, self.pixels, events, max_pixels=self.config.frame_max_pixels
        )


def vision_fingerprint(config: StudentConfig, directory: Path | None = None) -> str:
    """Return 12 hex digits that change with what the vision tower computes from a frame.

    Its weights, its configuration and the pixel settings: not the language model, so that two
    students with one tower share features. Device and precision are left out: they do not change
    what is computed beyond bfloat16's own error. Read from files, no model is built.
    """
    directory = directory or local_directory("student", config.model, config.revision)
    model_config = load_model_config(directory, config.model)
    vision = model_config.vision_config.to_dict()
    for name in _NOT_COMPUTED:
        vision.pop(name, None)
    return fingerprint(
        model_config.model_type,
        vision,
        pixel_settings(model_config, directory),
        tensors_digest(tower_tensors(directory)),
        config.frame_max_pixels,
    )


def load_model_config(directory: Path, name: str) -> Any:
    """Return the checkpoint's configuration. Raises ModelLoadError for none and other families."""
    from transformers import AutoConfig

    try:
        model_config = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(
            f"Student '{name}' cannot be loaded from {directory}: {error}. It must hold "
            "config.json, tokenizer files and safetensors weights (save_pretrained)."
        ) from error
    make_adapter(model_config)  # refuses other families
    return model_config


def device_of(config: StudentConfig) -> torch.device:
    """Return the device of a configured student."""
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(config: StudentConfig, directory: Path) -> torch.dtype:
    """Return the precision of a configured student.

    auto: bfloat16, but float32 for small checkpoints (up to LARGE_PARAMETERS) on a CPU.
    """
    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    on_gpu = device_of(config).type == "cuda"
    return torch.bfloat16 if on_gpu or is_large(directory) else torch.float32


def encode_events(
    visual: Any,
    adapter: Any,
    pixels: Any,
    events: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]],
    *,
    max_pixels: int,
) -> list[EventFeatures]:
    """Return the features of events from `visual`, a tower alone or that of a whole model.

    Gradients flow unless the caller turns them off.
    """
    patches, grids, times = [], [], []
    for frames_FHWC, times_s in events:
        assert len(frames_FHWC) == len(times_s) > 0, "an event needs frames and their times"
        x, grid = frames_to_patches(frames_FHWC, pixels, max_pixels=max_pixels)
        patches.append(x)
        grids.append(grid)
        times.append(torch.from_numpy(group_times(times_s, pixels.temporal_patch)))
    features: list[EventFeatures] = []
    for part in slices([len(x) for x in patches], _PATCHES_PER_CALL):
        features += _encode(visual, adapter, pixels.merge, patches[part], grids[part], times[part])
    return features


def slices(sizes: Sequence[int], limit: int) -> list[slice]:
    """Return consecutive slices whose sizes sum to at most `limit`, one item at least each."""
    found, start, total = [], 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            found.append(slice(start, i))
            start, total = i, 0
        total += size
    return [*found, slice(start, len(sizes))] if sizes else []


def _encode(
    visual: Any,
    adapter: Any,
    merge: int,
    patches: list[torch.Tensor],
    grids: list[tuple[int, int, int]],
    times: list[torch.Tensor],
) -> list[EventFeatures]:
    output = visual(
        torch.cat(patches).to(visual.device, visual.dtype),
        grid_thw=torch.tensor(grids, device=visual.device),
        return_dict=True,
    )
    rows = [t * h * w // merge**2 for t, h, w in grids]
    tokens = output.pooler_output.split(rows)
    deepstack = [layer.split(rows) for layer in adapter.deepstack(output)]
    features = []
    for i, (groups, height, width) in enumerate(grids):
        shape = (groups, height * width // merge**2, -1)
        extra = [layer[i].reshape(shape) for layer in deepstack]
        features.append(
            EventFeatures(
                groups_TPD=tokens[i].reshape(shape),
                grid_hw=(height // merge, width // merge),
                times_T=times[i],
                num_source_groups=groups,
                deepstack_LTPD=torch.stack(extra) if extra else None,
            )
        )
    return features


def _load(model_config: Any, directory: Path, dtype: torch.dtype) -> Any:
    """Build the tower without weights and give it the stored ones one by one."""
    from transformers.initialization import no_init_weights

    with no_init_weights():  # its memory is never touched before `assign` replaces it
        tower = make_adapter(model_config).tower_class()
        visual = tower._from_config(model_config.vision_config, dtype=dtype)
    expected = set(visual.state_dict())
    stored = tower_tensors(directory)
    if expected != set(stored):
        different = sorted(expected ^ set(stored))
        raise ModelLoadError(
            f"The vision tower in '{directory}' does not fit its config.json: {len(different)} "
            f"tensors differ, the first is {different[0]}. Save model and config together."
        )
    for name, tensor in stored.items():
        _assign(visual, name, read_tensor(tensor).to(dtype))
    return visual.requires_grad_(False)


def _assign(visual: Any, name: str, value: torch.Tensor) -> None:
    module_name, _, own_name = name.rpartition(".")
    module = visual.get_submodule(module_name)
    current = getattr(module, own_name)
    if current.shape != value.shape:
        raise ModelLoadError(
            f"The vision tower's {name} must be of shape {tuple(current.shape)}, as config.json "
            f"says. Got {tuple(value.shape)}. Save model and config together."
        )
    if isinstance(current, torch.nn.Parameter):
        value = torch.nn.Parameter(value, requires_grad=False)
    setattr(module, own_name, value)
