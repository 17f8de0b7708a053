"""World videos as the student sees them at inference: 1 fps, grouped inside events.

Letters: F frames, T temporal groups, N patches of a group, C values of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marc_core.models.preprocess import PixelSettings, frames_to_patches, group_times
from marc_core.tiny.models import FRAME_SIZE
from marc_core.world import WorldConfig, WorldVideo, event_at, render_frames, sample_video

MAX_FRAMES = 64
"""Frames of the teacher (paper, section 4)."""
RENDER_SIZES = (84, 112)
"""Sides at which training frames are rendered; 84 is what the student sees after resizing."""
TRAIN_SEED, TRAIN_SEEDS = 1_000_000, 900_000_000
"""Training videos have seeds from here on; smaller seeds are held out for evaluation."""


@dataclass(frozen=True, slots=True)
class GroupedVideo:
    """Groups of one video. times_T2: seconds of both frames. event_T: index of the event."""

    video: WorldVideo
    frames_FHWC: NDArray[np.uint8]
    times_T2: NDArray[np.float64]
    group_times_T: NDArray[np.float32]
    event_T: NDArray[np.int64]


def make_footage(seed: int, config: WorldConfig, *, size: int) -> GroupedVideo:
    """Return a rendered video: frames at 0, 1, 2, ... s, two a group, no group in two events."""
    video = sample_video(seed, config)
    times_F = np.arange(0.0, video.duration_s - 1e-6, 1.0)
    if len(times_F) > MAX_FRAMES:
        kept = np.linspace(0, len(times_F) - 1, MAX_FRAMES).round().astype(np.int64)
        times_F = times_F[kept]
    owner_F = np.array([event_at(video, float(t)).index for t in times_F])
    shown, starts, centres, events = [], [], [], []
    for index in np.unique(owner_F):
        inside = times_F[owner_F == index]
        padded = np.append(inside, inside[-1]) if len(inside) % 2 else inside
        shown.append(padded)
        starts.append(padded.reshape(-1, 2))
        centres.append(group_times(inside, 2))
        events += [index] * (len(padded) // 2)
    frames = render_frames(video, [float(t) for t in np.concatenate(shown)], size=size)
    return GroupedVideo(
        video, frames, np.concatenate(starts), np.concatenate(centres), np.array(events)
    )


def one_group_each(seed: int, config: WorldConfig, *, size: int, rng: Any) -> GroupedVideo:
    """Return one group of every event, two frames a second apart: more scenes for their price."""
    video = sample_video(seed, config)
    firsts = np.array([rng.uniform(e.start_s, e.end_s - 1.01) for e in video.events])
    times_T2 = np.stack([firsts, firsts + 1.0], axis=1)
    frames = render_frames(video, [float(t) for t in times_T2.ravel()], size=size)
    return GroupedVideo(
        video, frames, times_T2, times_T2.mean(axis=1).astype(np.float32), np.arange(len(firsts))
    )


def patches_of(footage: GroupedVideo, settings: PixelSettings) -> torch.Tensor:
    """Return (T, N, C) patches of all groups, as the vision tower takes them."""
    patches, grid = frames_to_patches(
        footage.frames_FHWC, settings, max_pixels=FRAME_SIZE * FRAME_SIZE
    )
    return patches.view(grid[0], grid[1] * grid[2], -1)


def train_seed(rng: np.random.Generator) -> int:
    """Return a seed of a training video."""
    return TRAIN_SEED + int(rng.integers(TRAIN_SEEDS))


def step_rng(seed: int, stage: str, step: int, rank: int) -> np.random.Generator:
    """Return the generator of one worker's batch: the same after a resume, different elsewhere."""
    key = [seed, step, rank, *stage.encode()]
    return np.random.default_rng(key)
