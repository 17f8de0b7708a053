"""Encoders: tiny random models of each family, made here, saved and loaded like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marc_core.config import EncoderConfig
from marc_core.embed import encoder_facts, load_encoder
from marc_core.embed.images import naflex_patches, naflex_size, pixel_values
from marc_core.embed.recipe import ImageRecipe
from marc_core.embed.transformers_encoder import tokenize
from marc_core.errors import ModelLoadError
from tests.encoders import save_encoder


@pytest.fixture(params=["clip", "siglip", "siglip2"])
def encoder(request, tmp_path):
    save_encoder(tmp_path, request.param)
    return load_encoder(EncoderConfig(model=str(tmp_path), device="cpu", batch_size=2))


def _frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_batch_equals_single_and_rows_are_unit(encoder):
    frames = _frames(3, 40, 60, 3)
    texts = ["a red circle", "the sea", "unknown words are spelled"]
    for together, alone in (
        (encoder.encode_images(frames), [encoder.encode_images(f[None]) for f in frames]),
        (encoder.encode_texts(texts), [encoder.encode_texts([t]) for t in texts]),
    ):
        assert together.shape == (3, encoder.dim)
        assert together.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


def test_any_frame_size_and_nothing(encoder):
    assert encoder.encode_images(_frames(1, 1, 1, 3)).shape == (1, encoder.dim)
    assert encoder.encode_images(_frames(2, 90, 31, 3)).shape == (2, encoder.dim)
    assert encoder.encode_images(_frames(0, 8, 8, 3)).shape == (0, encoder.dim)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)
    assert encoder.encode_texts(["red " * 500]).shape == (1, encoder.dim)


def test_texts_and_frames_matter(encoder):
    a, b = encoder.encode_texts(["a red circle", "the sea"])
    assert not np.allclose(a, b, atol=1e-4)
    a, b = encoder.encode_images(_frames(2, 32, 32, 3))
    assert not np.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)]
)
def test_wrong_frames_are_refused(encoder, frames):
    with pytest.raises(ValueError, match="uint8"):
        encoder.encode_images(frames)


def test_siglip_texts_are_lower_case_and_64_long(tmp_path):
    save_encoder(tmp_path, "siglip")
    encoder = load_encoder(EncoderConfig(model=str(tmp_path)))
    tokens = tokenize(encoder.tokenizer, ["A RED circle"], encoder.model.config)
    assert tokens["input_ids"].shape == (1, 64)
    assert set(tokens) == {"input_ids"}
    upper, lower = encoder.encode_texts(["A RED circle", "a red circle"])
    np.testing.assert_array_equal(upper, lower)


def test_fingerprint_follows_weights_and_recipe_not_path(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_encoder(tmp_path / name, "clip")
    first, second = (load_encoder(EncoderConfig(model=str(tmp_path / n))) for n in "ab")
    assert first.fingerprint == second.fingerprint
    settings = tmp_path / "b" / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("32", "24"))
    squashed = load_encoder(EncoderConfig(model=str(tmp_path / "b")))
    assert squashed.fingerprint != first.fingerprint
    with torch.no_grad():
        first.model.visual_projection.weight.add_(0.1)
    first.model.save_pretrained(tmp_path / "a")
    changed = load_encoder(EncoderConfig(model=str(tmp_path / "a")))
    assert changed.fingerprint != first.fingerprint


def test_facts_are_those_of_the_loaded_encoder(encoder, tmp_path):
    facts = encoder_facts(EncoderConfig(model=str(tmp_path)))
    assert (facts.dim, facts.fingerprint) == (encoder.dim, encoder.fingerprint)
    assert encoder.encode_texts(["the sea"]).shape == (1, facts.dim)


def test_weights_must_be_safetensors(tmp_path):
    save_encoder(tmp_path, "clip")
    (tmp_path / "model.safetensors").rename(tmp_path / "model.bin")
    for load in (load_encoder, encoder_facts):
        with pytest.raises(ModelLoadError, match="safetensors"):
            load(EncoderConfig(model=str(tmp_path)))


def test_clip_crops_the_middle():
    recipe = ImageRecipe(
        mean=(0,) * 3, std=(1,) * 3, resample="bicubic", shortest_edge=8, crop_hw=(8, 8)
    )
    frames = torch.zeros(1, 16, 48, 3, dtype=torch.uint8)
    frames[:, :, 16:32] = 255
    assert pixel_values(frames, recipe).min() > 0.9


def test_naflex_sizes_keep_the_aspect_ratio_and_the_limit():
    assert naflex_size(224, 224, patch_size=16, max_patches=256) == (256, 256)
    height, width = naflex_size(360, 640, patch_size=16, max_patches=256)
    assert (height // 16) * (width // 16) <= 256
    assert height % 16 == width % 16 == 0
    assert abs(width / height - 16 / 9) < 0.2
    assert naflex_size(1, 4000, patch_size=16, max_patches=4)[0] == 16


def test_naflex_patches_are_raster_order_channels_last():
    image = torch.arange(3 * 4 * 4).view(1, 3, 4, 4)
    patches = naflex_patches(image, 2)
    assert patches.shape == (1, 4, 12)
    assert patches[0, 1].tolist() == image[0, :, 0:2, 2:4].permute(1, 2, 0).flatten().tolist()


def test_pixels_equal_the_library_processor(tmp_path):
    """PIL resizing of the library against ours: at most one grey level apart."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    frames = _frames(2, 45, 70, 3)
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=3)
    theirs = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    recipe = ImageRecipe(mean=(0.5,) * 3, std=(0.5,) * 3, resample="bicubic", size_hw=(32, 32))
    ours = pixel_values(torch.from_numpy(frames), recipe)
    assert (ours - theirs).abs().max() <= 2 / 255 + 1e-6


def test_the_tiny_preset_loads():
    encoder = load_encoder(EncoderConfig(device="cpu"))
    assert encoder.encode_texts(["Which scene shows a red ring?"]).shape == (1, encoder.dim)
    assert encoder.encode_images(_frames(1, 84, 84, 3)).shape == (1, encoder.dim)


@pytest.mark.parametrize("model", ["preset:nothing", "/nowhere/at/all"])
def test_missing_models_name_the_remedy(model):
    with pytest.raises(ModelLoadError, match="preset"):
        load_encoder(EncoderConfig(model=model))


def test_other_families_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelLoadError, match="clip, siglip, siglip2"):
        load_encoder(EncoderConfig(model=str(tmp_path)))
