"""Frames to pixel values as a checkpoint's preprocessor_config.json says, without torchvision.

Resizing is done on uint8 with antialiasing, which gives the image library's own result to within
one grey level. Shape letters: N frames, H W pixels, L patches.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from marc_core.errors import ModelLoadError

_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""PIL's resampling codes that the supported families use; Lanczos (1) is refused."""
_MEANS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Normalisation with which the families were trained, for directories without a processor file."""


@dataclass(frozen=True, kw_only=True)
class ImageRecipe:
    """How one checkpoint wants its images. Sizes in pixels; `mean`, `std` for values in [0, 1].

    Exactly one of size_hw (squash), shortest_edge, max_patches (NaFlex) is set.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str
    size_hw: tuple[int, int] | None = None
    shortest_edge: int | None = None
    crop_hw: tuple[int, int] | None = None
    max_patches: int | None = None
    patch_size: int = 16


def read_recipe(directory: Path, *, family: str, vision_config: Any) -> ImageRecipe:
    """Read `preprocessor_config.json` (or `processor_config.json`) of `directory`.

    Missing files or keys fall back to the family's own values. Raises ModelLoadError for a
    resampling that is not supported.
    """
    raw = _read_json(directory)
    mean, std = _MEANS["clip" if "clip" in family else "siglip"]
    resample = raw.get("resample", 3 if "clip" in family else 2)
    if resample not in _RESAMPLE:
        raise ModelLoadError(
            f"Resampling must be one of {sorted(_RESAMPLE)} (PIL codes). Got {resample} in "
            f"'{directory}': use a checkpoint of the CLIP or SigLIP family."
        )
    image_size = getattr(vision_config, "image_size", None)
    common: dict[str, Any] = {
        "mean": tuple(raw.get("image_mean", mean)),
        "std": tuple(raw.get("image_std", std)),
        "resample": _RESAMPLE[resample],
        "patch_size": int(raw.get("patch_size", getattr(vision_config, "patch_size", 16))),
    }
    if family == "siglip2":
        patches = raw.get("max_num_patches", getattr(vision_config, "num_patches", 256))
        return ImageRecipe(**common, max_patches=int(patches))
    size = _size(raw.get("size", image_size))
    crop = _size(raw["crop_size"]) if raw.get("do_center_crop") and "crop_size" in raw else None
    if isinstance(size, int):
        return ImageRecipe(**common, shortest_edge=size, crop_hw=_pair(crop or size))
    return ImageRecipe(**common, size_hw=size, crop_hw=_pair(crop) if crop else None)


def _read_json(directory: Path) -> dict[str, Any]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (directory / name).is_file():
            raw = json.loads((directory / name).read_text())
            return dict(raw.get("image_processor", raw))
    return {}


def _size(value: Any) -> int | tuple[int, int]:
    """Shortest edge as int, or (height, width)."""
    if isinstance(value, dict):
        if "shortest_edge" in value:
            return int(value["shortest_edge"])
        return int(value["height"]), int(value["width"])
    return int(value), int(value)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def pixel_values(frames_NHWC: torch.Tensor, recipe: ImageRecipe) -> torch.Tensor:
    """Return normalised float32 (N, 3, H', W') for uint8 (N, H, W, 3) frames."""
    x_NCHW = frames_NHWC.permute(0, 3, 1, 2)
    height, width = x_NCHW.shape[-2:]
    x_NCHW = _resize(x_NCHW, _target_hw(height, width, recipe), recipe.resample)
    if recipe.crop_hw is not None:
        x_NCHW = _center_crop(x_NCHW, recipe.crop_hw)
    mean = torch.tensor(recipe.mean).view(1, -1, 1, 1)
    std = torch.tensor(recipe.std).view(1, -1, 1, 1)
    return (x_NCHW.float() / 255 - mean) / std


def _target_hw(height: int, width: int, recipe: ImageRecipe) -> tuple[int, int]:
    if recipe.size_hw is not None:
        return recipe.size_hw
    if recipe.shortest_edge is not None:
        scale = recipe.shortest_edge
        short = min(height, width)
        return int(scale * height / short), int(scale * width / short)
    assert recipe.max_patches is not None
    return naflex_size(height, width, patch_size=recipe.patch_size, max_patches=recipe.max_patches)


def _resize(x_NCHW: torch.Tensor, size_hw: tuple[int, int], resample: str) -> torch.Tensor:
    if tuple(x_NCHW.shape[-2:]) == size_hw:
        return x_NCHW
    if resample == "nearest":
        return F.interpolate(x_NCHW, size=size_hw, mode="nearest-exact")
    return F.interpolate(x_NCHW, size=size_hw, mode=resample, antialias=True, align_corners=False)


def _center_crop(x_NCHW: torch.Tensor, crop_hw: tuple[int, int]) -> torch.Tensor:
    height, width = x_NCHW.shape[-2:]
    top, left = max(0, (height - crop_hw[0]) // 2), max(0, (width - crop_hw[1]) // 2)
    return x_NCHW[..., top : top + crop_hw[0], left : left + crop_hw[1]]


def naflex_size(height: int, width: int, *, patch_size: int, max_patches: int) -> tuple[int, int]:
    """Return the largest (height, width), multiples of `patch_size`, within `max_patches`.

    Same bisection as SigLIP2's own processor, so that the position embeddings meet the grid that
    they were trained on.
    """
    low, high = 1e-6, 100.0

    def scaled(scale: float, size: int) -> int:
        return max(patch_size, math.ceil(size * scale / patch_size) * patch_size)

    while high - low >= 1e-5:
        middle = (low + high) / 2
        patches = scaled(middle, height) * scaled(middle, width) / patch_size**2
        low, high = (middle, high) if patches <= max_patches else (low, middle)
    return scaled(low, height), scaled(low, width)


def naflex_patches(x_NCHW: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Return (N, L, patch * patch * 3) patches in raster order, channels last within a patch."""
    n, c, height, width = x_NCHW.shape
    rows, columns = height // patch_size, width // patch_size
    x = x_NCHW.view(n, c, rows, patch_size, columns, patch_size).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(n, rows * columns, patch_size * patch_size * c)
