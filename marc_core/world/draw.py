"""Pixels of one background and of one object, cached; integer arithmetic wherever it counts.

Only + - * /, comparisons and square roots are used, which IEEE 754 fixes to the last bit; with
colours blended in integers, a frame is the same byte for byte on every machine.

Shape letters: H, W pixels, N side of an object's window.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from marc_core.world.words import BACKGROUNDS, COLOURS, RGB

SUBPIXELS = 4
"""Positions and radii are rounded to this part of a pixel, so that cached patches are met again."""
OPAQUE = 128
"""Coverage of a fully covered pixel; 255 * 128 still fits 16 bits."""
OUTLINE: RGB = (10, 10, 12)

FloatArray = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


@lru_cache(maxsize=512)
def background(
    name: str, phase: tuple[float, float], size_px: int, margin_px: int
) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 with H = W = size_px + 2 * margin_px, read-only.

    The middle `size_px` square is the frame without camera shake.
    """
    first, second, texture = BACKGROUNDS[name]
    side = size_px + 2 * margin_px
    u = (np.arange(2 * side, dtype=np.float64) + 0.5 - 2 * margin_px) / (2 * size_px)
    if texture == "gradient":
        weight = np.broadcast_to(np.clip(u * 64, 0, 64).astype(np.int16)[:, None], (u.size, u.size))
    else:
        weight = _texture(texture, u + phase[0] + 8, u + phase[1] + 8).astype(np.int16) * 64
    coarse = weight[::2, ::2] + weight[1::2, ::2] + weight[::2, 1::2] + weight[1::2, 1::2]
    share = np.arange(257, dtype=np.int32)[:, None]
    palette = ((256 - share) * np.array(first) + share * np.array(second) + 128) >> 8
    return _frozen(palette.astype(np.uint8)[coarse])


def _texture(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N, N) where the second colour is, from frame coordinates shifted by the phase (N,).

    Every texture is built from stripes along one axis, because a remainder per pixel is slow.
    """
    rows, columns = y[:, None], x[None, :]
    if name == "rows":
        return np.broadcast_to(rows * 6 % 1 < 0.5, (y.size, x.size))
    if name == "columns":
        return np.broadcast_to(columns * 6 % 1 < 0.5, (y.size, x.size))
    if name == "diagonal":
        step = x[1] - x[0]
        along = (x[0] + y[0] + step * np.arange(2 * x.size - 1)) * 4 % 1 < 0.5
        return np.lib.stride_tricks.sliding_window_view(along, x.size)
    if name == "checks":
        return (columns * 6 % 2 < 1) ^ (rows * 6 % 2 < 1)
    if name == "dots":
        dx, dy = columns * 6 % 1 - 0.5, rows * 6 % 1 - 0.5
        return dx * dx + dy * dy < 0.06
    if name == "grid":
        return (columns * 5 % 1 < 0.14) | (rows * 5 % 1 < 0.14)
    if name == "bricks":
        joints = np.where(rows * 6 % 2 < 1, (columns * 3 + 0.5) % 1 < 0.09, columns * 3 % 1 < 0.09)
        return joints | (rows * 6 % 1 < 0.16)
    assert name == "dashes", name
    return (rows * 3 % 1 < 0.2) & (columns * 3 % 1 < 0.55)


@lru_cache(maxsize=4096)
def patch(
    shape: str, colour: str, radius_q: int, shift_x: int, shift_y: int
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return an object's window: premultiplied colour and free background, (N, 3 N) each.

    A value becomes `colour + background * free / OPAQUE`; the channels of a pixel lie side by
    side, so that blending runs along whole rows. radius_q and the shifts of the centre from the
    middle pixel's corner are in sub-pixels. N is odd.
    """
    radius = radius_q / SUBPIXELS
    edge = max(0.7, 0.10 * radius)
    half = int(1.2 * radius + edge) + 2
    grid = np.arange(2 * half + 1, dtype=np.float32) - np.float32(half - 0.5)
    x = (grid - np.float32(shift_x / SUBPIXELS))[None, :]
    y = (grid - np.float32(shift_y / SUBPIXELS))[:, None]
    outside = _distance(shape, x, y, np.float32(radius))
    inner = _coverage(outside + np.float32(edge / 2))
    outer = _coverage(outside - np.float32(edge / 2))
    fill = np.array(COLOURS[colour], dtype=np.int32)
    line = np.array(OUTLINE, dtype=np.int32)
    ink = (fill * inner[..., None] + line * (outer - inner)[..., None]) // OPAQUE
    free = np.repeat((OPAQUE - outer)[..., None], 3, axis=2)
    wide = (2 * half + 1, -1)
    return _frozen(ink.astype(np.int16).reshape(wide)), _frozen(free.astype(np.int16).reshape(wide))


def _coverage(outside: FloatArray) -> NDArray[np.int32]:
    """Return 0 ... OPAQUE from the signed distance to the edge in pixels."""
    covered = np.clip(np.float32(0.5) - outside, np.float32(0), np.float32(1))
    coverage: NDArray[np.int32] = (covered * np.float32(OPAQUE)).astype(np.int32)
    return coverage


def _distance(shape: str, x: FloatArray, y: FloatArray, r: np.float32) -> FloatArray:
    """Return the signed distance in pixels to the shape's edge, negative inside (N, N)."""
    f = np.float32
    if shape == "circle":
        return np.sqrt(x * x + y * y) - r
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - f(0.72) * r) - f(0.28) * r
    ax, ay = np.abs(x), np.abs(y)
    if shape == "square":
        return np.maximum(ax, ay) - f(0.88) * r
    if shape == "diamond":
        return (ax + ay - f(1.18) * r) * f(0.7071)
    if shape == "triangle":
        low = y - f(0.22) * r
        sides: FloatArray = ax * f(0.866) - low * f(0.5)
        inner: FloatArray = np.maximum(low, sides)
        return inner - f(0.6) * r
    assert shape == "plus", shape
    long, short = f(1.0) * r, f(0.36) * r
    upright = np.maximum(ax - short, ay - long)
    flat = np.maximum(ax - long, ay - short)
    both: FloatArray = np.minimum(upright, flat)
    return both


def paste(
    frame: NDArray[np.uint8],
    ink: NDArray[np.int16],
    free: NDArray[np.int16],
    row: int,
    column: int,
) -> None:
    """Blend a window into frame (H, W, 3), contiguous, in place; its middle is (row, column)."""
    side, half = ink.shape[0], ink.shape[0] // 2
    top, left = row - half, column - half
    height, width = frame.shape[:2]
    r0, r1 = max(0, -top), min(side, height - top)
    c0, c1 = max(0, -left), min(side, width - left)
    if r0 >= r1 or c0 >= c1:
        return
    flat = frame.reshape(height, 3 * width)
    target = flat[top + r0 : top + r1, 3 * (left + c0) : 3 * (left + c1)]
    mixed = target * free[r0:r1, 3 * c0 : 3 * c1]
    mixed += OPAQUE // 2
    mixed >>= 7
    mixed += ink[r0:r1, 3 * c0 : 3 * c1]
    target[...] = mixed


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    array.flags.writeable = False
    return array
