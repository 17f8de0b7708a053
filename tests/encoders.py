"""Tiny random dual encoders of each family, saved like any other."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

from marc_core.tiny.tokenizers import build_encoder_tokenizer

WORDS = ("a", "red", "circle", "moves", "left", "the", "sea")
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}


def save_encoder(directory: Path, family: str) -> None:
    """Save an encoder of the family clip, siglip or siglip2 (12 dimensions, or 16)."""
    torch.manual_seed(0)
    tokenizer = build_encoder_tokenizer(WORDS, 64)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    vision = {**TOWER, "patch_size": 8}
    if family == "clip":
        text["eos_token_id"] = tokenizer.eos_token_id
        config = CLIPConfig(
            text_config=text, vision_config={**vision, "image_size": 32}, projection_dim=12
        )
        model = CLIPModel(config)
        settings = {
            "size": {"shortest_edge": 32},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "resample": 3,
        }
    elif family == "siglip":
        model = SiglipModel(
            SiglipConfig(text_config=text, vision_config={**vision, "image_size": 32})
        )
        settings = {"size": {"height": 32, "width": 32}, "resample": 2}
    else:
        model = Siglip2Model(
            Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16})
        )
        settings = {"max_num_patches": 16, "patch_size": 8}
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
