"""What a checkpoint's preprocessor_config.json says of its images: numbers only, no tensor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
