"""Frames to pixel values as a checkpoint's recipe says, without torchvision.

Resizing is done on uint8 with antialiasing, which gives the image library's own result to within
one grey level. Shape letters: N frames, H W pixels, L patches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from marc_core.embed.recipe import ImageRecipe


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
