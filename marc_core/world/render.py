"""Frames of a video at any times and any size.

    render_frames -> per frame: scene(s) -> transition blend -> brightness drift + noise
                     scene: cached background, shifted by camera shake, + one window per object

Measured by benchmarks/world_speed.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from marc_core.world.draw import SUBPIXELS, background, paste, patch
from marc_core.world.states import event_at, position, radius_at, step
from marc_core.world.streams import mix
from marc_core.world.types import WorldEvent, WorldVideo

NOISE_SEED = 20251007
NOISE_BITS = 20
"""The noise table has 2^20 values; every frame reads it from a place of its own."""
SHAKE_HZ = 6
"""Camera positions per second of time."""


def render_frames(
    video: WorldVideo, times_s: Sequence[float], *, size: int | None = None
) -> NDArray[np.uint8]:
    """Return (F, size, size, 3) uint8 RGB frames at `times_s`, in seconds from the start.

    `size` is the side in pixels, the configuration's `size_px` by default; positions and lengths
    scale with it. The same arguments give the same bytes in every process and on every machine.
    Raises ValueError when a time lies outside the video or the size is below 16.
    """
    size = video.config.size_px if size is None else size
    if size < 16:
        raise ValueError(f"Frames need a side of 16 pixels or more. Got {size}.")
    frames = np.empty((len(times_s), size, size, 3), dtype=np.uint8)
    for frame, time_s in zip(frames, times_s, strict=True):
        _draw(video, float(time_s), frame)
    return frames


def _draw(video: WorldVideo, time_s: float, frame: NDArray[np.uint8]) -> None:
    shake = _shake(video, time_s, frame.shape[0])
    event = event_at(video, time_s)
    _draw_scene(event, time_s - event.start_s, shake, frame)
    other, weight = _blend(video, event, time_s)
    if other is not None:
        local_s = min(max(time_s - other.start_s, 0.0), other.duration_s)
        second = np.empty_like(frame)
        _draw_scene(other, local_s, shake, second)
        frame[...] = (frame * np.int32(256 - weight) + second * np.int32(weight) + 128) >> 8
    _disturb(video, time_s, frame)


def _blend(video: WorldVideo, event: WorldEvent, time_s: float) -> tuple[WorldEvent | None, int]:
    """Return the other scene of the transition at `time_s` and its weight of 256, or (None, 0)."""
    for index in (event.index, event.index + 1):
        if not 1 <= index < len(video.events):
            continue
        transition = video.transitions[index - 1]
        apart_s = abs(time_s - transition.time_s)
        if apart_s < transition.length_s / 2:
            other = video.events[index - 1 if index == event.index else index]
            return other, int(256 * (0.5 - apart_s / transition.length_s))
    return None, 0


def _draw_scene(
    event: WorldEvent, local_s: float, shake: tuple[int, int, int], frame: NDArray[np.uint8]
) -> None:
    size, (right, down, margin) = frame.shape[0], shake
    canvas = background(event.background, event.phase, size, margin)
    top, left = margin - down, margin - right
    frame[...] = canvas[top : top + size, left : left + size]
    for thing in sorted(event.objects, key=lambda o: o.layer):
        if not step(thing.shown, local_s):
            continue
        x, y = position(thing, local_s)
        radius_q = round(radius_at(thing, local_s) * size * SUBPIXELS)
        column, shift_x = divmod(round(x * size * SUBPIXELS), SUBPIXELS)
        row, shift_y = divmod(round(y * size * SUBPIXELS), SUBPIXELS)
        shape, colour = step(thing.shapes, local_s), step(thing.colours, local_s)
        ink, free = patch(shape, colour, radius_q, shift_x, shift_y)
        paste(frame, ink, free, row + down, column + right)


def _shake(video: WorldVideo, time_s: float, size: int) -> tuple[int, int, int]:
    """Return the camera's shift (right, down) and the largest one, in whole pixels."""
    margin = round(video.config.shake * size)
    if margin == 0:
        return 0, 0, 0
    bits = mix(video.camera_seed, int(time_s * SHAKE_HZ))
    right = round(((bits & 0xFFFF) / 0x8000 - 1) * video.config.shake * size)
    down = round(((bits >> 16 & 0xFFFF) / 0x8000 - 1) * video.config.shake * size)
    return right, down, margin


def _disturb(video: WorldVideo, time_s: float, frame: NDArray[np.uint8]) -> None:
    """Add brightness drift (a triangle wave of 6 - 14 s) and pixel noise in place."""
    config = video.config
    if config.noise == 0 and config.brightness_drift == 0:
        return
    bits = mix(video.camera_seed, -1)
    turn = time_s / (6 + (bits & 7)) + (bits >> 8 & 0xFF) / 256
    drift = int(config.brightness_drift * (4 * abs(turn % 1 - 0.5) - 1))
    table = _noise(config.noise)
    place = mix(video.camera_seed, round(time_s * 1000)) % len(table)
    count = frame.size
    if place + count > len(table):
        grain = np.take(table, np.arange(place, place + count), mode="wrap")
    else:
        grain = table[place : place + count]
    noisy = frame + grain.reshape(frame.shape)
    noisy += np.int16(drift)
    np.clip(noisy, 0, 255, out=noisy)
    frame[...] = noisy


@lru_cache(maxsize=4)
def _noise(amplitude: int) -> NDArray[np.int16]:
    """Return 2^20 values: the sum of two uniform ones, within +- amplitude."""
    rng = np.random.Generator(np.random.PCG64(NOISE_SEED))
    grain = rng.random((2, 1 << NOISE_BITS))
    table: NDArray[np.int16] = ((grain[0] + grain[1] - 1) * (amplitude + 0.999)).astype(np.int16)
    table.flags.writeable = False
    return table
