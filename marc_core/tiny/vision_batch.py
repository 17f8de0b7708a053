"""The vision tower on many equal grids at once, for training.

The library attends group by group in a Python loop, which is what a few large videos need and
hundreds of 6 x 6 grids do not. This is the same arithmetic with the loop as a batch dimension,
equal to `model.visual` (see the test). Only for grids that fit one attention window.

Letters: T temporal groups, N patches of a group, P = N / 4 tokens, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def encode_groups(visual: Any, patches_TNC: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
    """Return (T, P, D) merged features, raster order, of (T, N, C) patches in merge-unit order.

    visual: Qwen2_5_VisionTransformerPretrainedModel whose blocks all attend to the whole group.
    grid_hw: rows and columns of patches; rows * columns = N.
    """
    _check(visual, patches_TNC, grid_hw)
    num_groups, num_patches, _ = patches_TNC.shape
    weight = visual.patch_embed.proj.weight
    x = F.linear(patches_TNC.to(weight.dtype), weight.reshape(weight.shape[0], -1))
    cos, sin = _rotary(visual, x, grid_hw)
    for block in visual.blocks:
        x = x + _attention(block.attn, block.norm1(x), cos, sin)
        x = x + block.mlp(block.norm2(x))
    unit = visual.spatial_merge_unit
    return torch.as_tensor(visual.merger(x).view(num_groups, num_patches // unit, -1))


def _check(visual: Any, patches_TNC: torch.Tensor, grid_hw: tuple[int, int]) -> None:
    rows, columns = grid_hw
    if rows * columns != patches_TNC.shape[1]:
        raise ValueError(
            f"grid_hw must have as many cells as there are patches ({patches_TNC.shape[1]}). "
            f"Got {rows} x {columns}."
        )
    side = visual.window_size // visual.patch_size
    partial = len(visual.fullatt_block_indexes) < len(visual.blocks)
    if partial and max(rows, columns) > side:
        raise ValueError(
            f"Groups must fit one attention window of {side} x {side} patches. "
            f"Got {rows} x {columns}: use smaller frames, or the library's own forward."
        )


def _rotary(
    visual: Any, x: torch.Tensor, grid_hw: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cos and sin, (N, 1, head_dim), of patches in merge-unit order."""
    m = visual.spatial_merge_size
    rows, columns = grid_hw
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    order = torch.stack([row, column]).view(2, rows // m, m, columns // m, m)
    positions = order.permute(0, 1, 3, 2, 4).reshape(2, -1).T.to(x.device)
    cos, sin = visual.rotary_pos_emb(x, positions)
    return cos.unsqueeze(1).float(), sin.unsqueeze(1).float()


def _attention(
    attention: Any, x_TNC: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    num_groups, num_patches, width = x_TNC.shape
    heads = attention.num_heads
    qkv = attention.qkv(x_TNC).view(num_groups, num_patches, 3, heads, width // heads)
    q, k, v = qkv.unbind(2)
    q, k = (_rotate(t, cos, sin).transpose(1, 2) for t in (q, k))
    y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2))
    return torch.as_tensor(attention.proj(y.transpose(1, 2).reshape(x_TNC.shape)))


def _rotate(t: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    x = t.float()
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return (x * cos + turned * sin).to(t.dtype)
