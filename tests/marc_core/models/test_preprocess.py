"""Pixels to patches: the library's order and sizes, checked against plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from marc_core.models.preprocess import (
    PixelSettings,
    frames_to_patches,
    group_times,
    pixel_settings,
    smart_resize,
)

SETTINGS = PixelSettings(
    patch=4, temporal_patch=2, merge=2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)
)


@pytest.mark.parametrize(
    ("size", "unit", "limit", "expected"),
    [
        ((360, 640), 28, 128 * 784, (224, 420)),
        ((1080, 1920), 28, 128 * 784, (224, 420)),
        ((56, 84), 28, 128 * 784, (56, 84)),
        ((3, 5), 28, 128 * 784, (28, 28)),
        ((100, 100), 28, 10, (28, 28)),
        ((10, 4000), 28, 128 * 784, (28, 3584)),
        ((64, 64), 8, 64 * 64, (64, 64)),
    ],
)
def test_smart_resize(size, unit, limit, expected):
    assert smart_resize(*size, unit=unit, max_pixels=limit) == expected


def test_smart_resize_is_the_authors_formula_for_frames_above_one_unit():
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(v) for v in rng.integers(28, 2000, 2))
        expected = (round(height / 28) * 28, round(width / 28) * 28)
        if expected[0] * expected[1] > 128 * 784:
            beta = np.sqrt(height * width / (128 * 784))
            expected = tuple(max(28, int(side / beta // 28) * 28) for side in (height, width))
        if expected[0] * expected[1] <= 128 * 784:
            assert smart_resize(height, width, unit=28, max_pixels=128 * 784) == expected


def test_smart_resize_never_exceeds_the_limit_where_the_authors_formula_does():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        height, width = (int(v) for v in np.exp(rng.uniform(0, 9, 2)) + 1)
        out = smart_resize(height, width, unit=28, max_pixels=128 * 784)
        assert out[0] % 28 == out[1] % 28 == 0 < min(out)
        assert out[0] * out[1] <= 128 * 784


def test_patches_are_the_right_pixels_in_the_right_order():
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), dtype=np.uint8)
    patches, grid = frames_to_patches(frames, SETTINGS, max_pixels=10**6)
    assert grid == (2, 4, 6)
    row = 0
    for t in range(2):
        for unit_y in range(2):
            for unit_x in range(3):
                for y in range(2):
                    for x in range(2):
                        top, left = (unit_y * 2 + y) * 4, (unit_x * 2 + x) * 4
                        part = frames[2 * t : 2 * t + 2, top : top + 4, left : left + 4]
                        value = (part / 255.0 - SETTINGS.mean) / SETTINGS.std
                        expected = value.transpose(3, 0, 1, 2).reshape(-1)
                        np.testing.assert_allclose(patches[row], expected, rtol=1e-4, atol=1e-5)
                        row += 1
    assert row == len(patches)


def test_odd_frame_count_repeats_the_last_frame():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    odd, grid = frames_to_patches(frames, SETTINGS, max_pixels=10**6)
    even, _ = frames_to_patches(np.concatenate([frames, frames[-1:]]), SETTINGS, max_pixels=10**6)
    assert grid[0] == 2
    assert torch.equal(odd, even)


def test_large_frames_are_shrunk_and_read_only_arrays_accepted():
    frames = np.full((2, 90, 160, 3), 128, dtype=np.uint8)
    frames.setflags(write=False)
    patches, grid = frames_to_patches(frames, SETTINGS, max_pixels=1024)
    assert grid[1] * grid[2] * 16 <= 1024
    grey = (128 / 255 - np.array(SETTINGS.mean)) / np.array(SETTINGS.std)
    np.testing.assert_allclose(patches.reshape(-1, 3, 32).mean(dim=(0, 2)), grey, rtol=1e-4)


def test_group_times_are_centres_evenly_spaced_also_for_odd_counts():
    assert group_times(np.array([0.0, 1.0, 2.0, 3.0]), 2).tolist() == [0.5, 2.5]
    assert group_times(np.array([10.0, 11.0, 12.0]), 2).tolist() == [10.5, 12.5]
    assert group_times(np.array([7.0]), 2).tolist() == [7.0]


def test_mean_and_std_come_from_the_directory(tmp_path, checkpoint):
    config = AutoConfig.from_pretrained(checkpoint("qwen2_5_vl"))
    assert pixel_settings(config, tmp_path).mean[0] == pytest.approx(0.4814, abs=1e-3)
    stored = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    found = pixel_settings(config, tmp_path)
    assert (found.mean, found.std, found.unit) == ((0.0,) * 3, (1.0,) * 3, 8)
    half = AutoConfig.from_pretrained(checkpoint("qwen3_vl"))
    assert pixel_settings(half).mean == (0.5, 0.5, 0.5)
