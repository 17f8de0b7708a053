"""The vision tower alone: equal to the whole model's, and blind to the language model's files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from marc_core.config import StudentConfig
from marc_core.errors import ModelLoadError
from marc_core.models.loading import load_model
from marc_core.models.vision_tower import VisionTower, encode_events, vision_fingerprint
from marc_core.models.weights import stored_tensors

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]


def config_for(directory, **settings):
    return StudentConfig(
        model=str(directory), **{"device": "cpu", "frame_max_pixels": 32 * 32} | settings
    )


def with_changed(directory, part):
    """Add 1e-2 to the first weight whose name holds `part`."""
    (file,) = directory.glob("*.safetensors")
    tensors = load_file(file)
    name = next(n for n in sorted(tensors) if part in n and tensors[n].ndim > 1)
    tensors[name] += 1e-2
    save_file(tensors, file, metadata={"format": "pt"})
    return name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features_equal_the_whole_models(family, dtype, checkpoint, make_frames):
    config = config_for(checkpoint(family), dtype=dtype)
    events = [make_frames(5, seed=1), make_frames(2, seed=2, size=(32, 16)), make_frames(4)]
    tower, (model, _, _) = VisionTower(config), load_model(config)
    with torch.inference_mode():
        expected = encode_events(
            model.model.visual, tower.adapter, tower.pixels, events, max_pixels=32 * 32
        )
    for own, full in zip(tower.encode_events(events), expected, strict=True):
        assert torch.equal(own.groups_TPD, full.groups_TPD)
        assert own.groups_TPD.dtype == getattr(torch, dtype)
        assert own.grid_hw == full.grid_hw
        assert torch.equal(own.times_T, full.times_T)
        if family == "qwen3_vl":
            assert torch.equal(own.deepstack_LTPD, full.deepstack_LTPD)
        else:
            assert own.deepstack_LTPD is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fingerprint_follows_the_tower_only(family, checkpoint):
    directory = checkpoint(family, copy=True)
    base = vision_fingerprint(config_for(directory))
    with_changed(directory, "language_model" if family == "qwen3_vl" else "layers")
    assert vision_fingerprint(config_for(directory)) == base
    for same in ({"max_frames": 3}, {"dtype": "bfloat16"}, {"temporal_positions": "grid"}):
        assert vision_fingerprint(config_for(directory, **same)) == base
    assert vision_fingerprint(config_for(directory, frame_max_pixels=64)) != base
    name = with_changed(directory, "visual.")
    assert vision_fingerprint(config_for(directory)) != base, name


def test_pixel_settings_are_part_of_the_fingerprint(checkpoint):
    directory = checkpoint("qwen2_5_vl", copy=True)
    base = vision_fingerprint(config_for(directory))
    (directory / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3}))
    assert vision_fingerprint(config_for(directory)) != base


def test_shards_and_their_names_do_not_change_the_fingerprint(checkpoint):
    directory = checkpoint("qwen2_5_vl", copy=True)
    base = vision_fingerprint(config_for(directory))
    (file,) = directory.glob("*.safetensors")
    tensors = load_file(file)
    file.unlink()
    for i, (name, tensor) in enumerate(tensors.items()):
        renamed = f"model.{name}" if name.startswith("visual.") else name
        save_file({renamed: tensor}, directory / f"part-{i:05}.safetensors")
    assert vision_fingerprint(config_for(directory)) == base


def test_the_language_model_is_never_read(checkpoint, make_frames):
    """Its tensors may even be missing: the file then holds the tower alone."""
    directory = checkpoint("qwen2_5_vl", copy=True)
    (file,) = directory.glob("*.safetensors")
    expected = VisionTower(config_for(directory)).encode_events([make_frames(4)])
    tensors = {n: t for n, t in load_file(file).items() if "visual." in n}
    save_file(tensors, file)
    own = VisionTower(config_for(directory)).encode_events([make_frames(4)])
    assert torch.equal(own[0].groups_TPD, expected[0].groups_TPD)


def test_what_is_no_tower_is_refused(checkpoint):
    directory = checkpoint("qwen2_5_vl", copy=True)
    (file,) = directory.glob("*.safetensors")
    tensors = load_file(file)
    save_file({n: t for n, t in tensors.items() if "visual." not in n}, file)
    with pytest.raises(ModelLoadError, match="vision tower"):
        VisionTower(config_for(directory))
    save_file({n: t for n, t in tensors.items() if "patch_embed" not in n}, file)
    with pytest.raises(ModelLoadError, match="does not fit its config"):
        VisionTower(config_for(directory))
    name = next(n for n in tensors if "visual." in n and tensors[n].ndim > 1)
    save_file(tensors | {name: tensors[name][:1].clone()}, file)
    with pytest.raises(ModelLoadError, match="must be of shape"):
        VisionTower(config_for(directory))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelLoadError, match="ends inside a tensor"):
        stored_tensors(directory)
    file.write_bytes(b"nonsense")
    with pytest.raises(ModelLoadError, match="not a whole safetensors file"):
        VisionTower(config_for(directory))
