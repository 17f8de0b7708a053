"""Frames become the vision tower's patches, exactly as the library's video processor makes them.

The processor itself needs torchvision, which has no CPU build for the pinned torch; this module
was bit-exact with it on real videos. Honest differences: no frame is enlarged to a minimum size
(only to one merge unit), and the pixel limit is ours (`StudentConfig.frame_max_pixels`).

Letters: F frames, T temporal groups, H W pixels, h w tokens of a group after the spatial merge.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSettings:
    """How a model wants its pixels: sizes from its config, mean and std from its processor."""

    patch: int
    temporal_patch: int
    merge: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def unit(self) -> int:
        """Pixels on a side of one visual token."""
        return self.patch * self.merge


def pixel_settings(model_config: Any, directory: Path | None = None) -> PixelSettings:
    """Return the settings of a Qwen-VL configuration.

    Mean and std come from video_preprocessor_config.json or preprocessor_config.json in
    `directory` where there is one, else from the family's defaults.
    """
    vision = model_config.vision_config
    half = model_config.model_type.startswith("qwen3")
    mean, std = (_HALF, _HALF) if half else (_CLIP_MEAN, _CLIP_STD)
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if directory is not None and (directory / name).is_file():
            stored = json.loads((directory / name).read_text())
            mean = tuple(stored.get("image_mean", mean))
            std = tuple(stored.get("image_std", std))
            break
    return PixelSettings(
        patch=_one_side(vision.patch_size),
        temporal_patch=_one_side(vision.temporal_patch_size),
        merge=vision.spatial_merge_size,
        mean=mean,
        std=std,
    )


def smart_resize(height: int, width: int, *, unit: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) as multiples of `unit` with at most `max_pixels`, one unit at least.

    Rounds as the authors' function does; aspect ratio kept as closely as multiples allow.
    """
    new_height = max(unit, round(height / unit) * unit)
    new_width = max(unit, round(width / unit) * unit)
    if new_height * new_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        new_height = max(unit, math.floor(height / shrink / unit) * unit)
        new_width = max(unit, math.floor(width / shrink / unit) * unit)
        # A side shorter than one unit was enlarged: the other side must pay for it.
        new_height = min(new_height, max(unit, max_pixels // new_width // unit * unit))
        new_width = min(new_width, max(unit, max_pixels // new_height // unit * unit))
    return new_height, new_width


def frames_to_patches(
    frames_FHWC: NDArray[np.uint8], settings: PixelSettings, *, max_pixels: int
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Return (patches (N, 3 * temporal_patch * patch * patch) float32, grid (t, h, w) in patches).

    frames_FHWC: (F, H, W, 3) uint8 RGB, F >= 1. Missing frames of the last group repeat the last
    frame, so that no group straddles two events.
    """
    height, width = smart_resize(
        frames_FHWC.shape[1], frames_FHWC.shape[2], unit=settings.unit, max_pixels=max_pixels
    )
    if not frames_FHWC.flags.writeable:
        frames_FHWC = frames_FHWC.copy()  # torch warns about read-only arrays
    x_FCHW = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(0, 3, 1, 2)
    if tuple(x_FCHW.shape[2:]) != (height, width):
        x_FCHW = F.interpolate(x_FCHW, size=(height, width), mode="bicubic", antialias=True)
    mean = torch.tensor(settings.mean).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(settings.std).view(1, 3, 1, 1) * 255.0
    x_FCHW = (x_FCHW.float() - mean) / std
    missing = -len(x_FCHW) % settings.temporal_patch
    if missing:
        x_FCHW = torch.cat([x_FCHW, x_FCHW[-1:].expand(missing, -1, -1, -1)])
    return _patchify(x_FCHW, settings)


def group_times(times_s: NDArray[np.float64], temporal_patch: int) -> NDArray[np.float32]:
    """Return (T,) float32: centres of the temporal groups in seconds.

    A repeated last frame counts as one frame interval later, so that evenly sampled frames give
    evenly spaced groups, as the library's positions assume.
    """
    times = np.asarray(times_s, dtype=np.float64)
    step = times[-1] - times[-2] if len(times) > 1 else 0.0
    missing = -len(times) % temporal_patch
    times = np.concatenate([times, times[-1] + step * np.arange(1, missing + 1)])
    centres: NDArray[np.float32] = times.reshape(-1, temporal_patch).mean(axis=1).astype(np.float32)
    return centres


def _patchify(
    x_FCHW: torch.Tensor, settings: PixelSettings
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Cut into patches, ordered by group, then merge unit (raster), then patch in the unit."""
    p, m, t = settings.patch, settings.merge, settings.temporal_patch
    num_frames, channels, height, width = x_FCHW.shape
    grid = (num_frames // t, height // p, width // p)
    x = x_FCHW.reshape(grid[0], t, channels, grid[1] // m, m, p, grid[2] // m, m, p)
    x = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return x.reshape(math.prod(grid), channels * t * p * p), grid


def _one_side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[-1])
