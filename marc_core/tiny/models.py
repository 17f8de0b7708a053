"""The tiny preset's architectures: a real dual encoder and a real Qwen2.5-VL, both very small.

Sizes are our choice: the student fits 10 MB in bfloat16 and trains on a CPU core; frames of
84 x 84 give 6 x 6 patches of 14, 3 x 3 tokens a temporal group after the spatial merge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marc_core.models.model_settings import ModelSettings, write_model_settings
from marc_core.tiny.reading import start_reading, start_resting

FRAME_SIZE = 84
"""Pixels of a frame's side: the presets' frame_max_pixels is its square."""


@dataclass(frozen=True, kw_only=True)
class StudentSize:
    """Widths and depths of the tiny student (our choice, see the module)."""

    vision_width: int = 128
    vision_layers: int = 3
    vision_heads: int = 4
    text_width: int = 256
    text_layers: int = 6
    text_heads: int = 4
    text_mlp: int = 768


@dataclass(frozen=True, kw_only=True)
class EncoderSize:
    """Widths and depths of the tiny dual encoder (our choice)."""

    vision_widths: tuple[int, ...] = (48, 96, 192)
    vision_depths: tuple[int, ...] = (1, 2, 1)
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    text_mlp: int = 256
    dim: int = 128
    max_text_tokens: int = 64


def build_student(tokenizer: Any, size: StudentSize) -> Any:
    """Return a randomly initialised float32 Qwen2_5_VLForConditionalGeneration."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {t: tokenizer.convert_tokens_to_ids(f"<|{t}|>") for t in _SPECIAL}
    head_dim = size.text_width // size.text_heads
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": size.text_width,
            "intermediate_size": size.text_mlp,
            "num_hidden_layers": size.text_layers,
            "num_attention_heads": size.text_heads,
            "num_key_value_heads": size.text_heads,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": _mrope_section(head_dim),
            },
            "bos_token_id": None,
            "eos_token_id": ids["im_end"],
            "pad_token_id": ids["endoftext"],
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_width,
            "intermediate_size": 3 * size.vision_width,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.text_width,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": list(range(size.vision_layers)),
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )
    model: Any = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():  # to about unit length: words must outlast training's first steps
        model.model.language_model.embed_tokens.weight.mul_(3)
    start_reading(model)
    start_resting(model)
    model.generation_config.eos_token_id = ids["im_end"]
    model.generation_config.pad_token_id = ids["endoftext"]
    return model


_SPECIAL = (
    "endoftext", "im_end", "image_pad", "video_pad", "vision_start", "vision_end",
)  # fmt: skip


def _mrope_section(head_dim: int) -> list[int]:
    """Time, height, width shares of half a head, in the checkpoints' proportion 16 : 24 : 24."""
    half = head_dim // 2
    time = half // 4
    rest = (half - time) // 2
    return [half - 2 * rest, rest, rest]


def build_encoder(tokenizer: Any, size: EncoderSize) -> Any:
    """Return a randomly initialised float32 VisionTextDualEncoderModel: ConvNeXt and CLIP's text.

    Convolutions learn small shapes anywhere in the picture from far fewer examples than a vision
    transformer of the same size (docs/tiny.md), and the mean over places is what "shows a red
    circle somewhere" needs.
    """
    from transformers import (
        CLIPTextConfig,
        ConvNextConfig,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
    )

    text = CLIPTextConfig(
        hidden_size=size.text_width,
        intermediate_size=size.text_mlp,
        num_attention_heads=size.text_heads,
        num_hidden_layers=size.text_layers,
        vocab_size=len(tokenizer),
        max_position_embeddings=size.max_text_tokens,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    make_vision: Any = ConvNextConfig
    vision = make_vision(
        num_stages=len(size.vision_widths),
        hidden_sizes=list(size.vision_widths),
        hidden_size=size.vision_widths[-1],  # read by the dual encoder, not by ConvNeXt
        depths=list(size.vision_depths),
        layer_scale_init_value=1.0,
        image_size=FRAME_SIZE,
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision, text, projection_dim=size.dim
    )
    return VisionTextDualEncoderModel(config)


STUDENT_SETTINGS = ModelSettings(
    options_prompt="choice",
    evaluation_prompt="direct",
    threads=1,
    max_seconds=54.0,
    prose=False,
    footage=False,
)
"""How the tiny student wants to be used. It never learned to match words with letters; its videos
had up to six scenes of up to 9 s."""


def save_student(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write config, bfloat16 safetensors, tokenizer, image processor settings and marc.json."""
    _save(model, tokenizer, directory)
    _write_processor(directory, merge=True)
    write_model_settings(STUDENT_SETTINGS, directory)


def save_encoder(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write config, bfloat16 safetensors, tokenizer and image processor settings."""
    _save(model, tokenizer, directory)
    _write_processor(directory, merge=False)


def _save(model: Any, tokenizer: Any, directory: Path) -> None:
    import copy

    directory.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)


def _write_processor(directory: Path, *, merge: bool) -> None:
    import json

    clip = {"image_mean": [0.48145466, 0.4578275, 0.40821073]}
    clip["image_std"] = [0.26862954, 0.26130258, 0.27577711]
    if merge:
        extra: dict[str, Any] = {
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "resample": 3,
            "min_pixels": 28 * 28, "max_pixels": FRAME_SIZE**2,
        }  # fmt: skip
    else:
        extra = {
            "do_resize": True, "resample": 3, "do_center_crop": False,
            "size": {"height": FRAME_SIZE, "width": FRAME_SIZE},
        }  # fmt: skip
    text = json.dumps({**clip, **extra}, indent=2)
    (directory / "preprocessor_config.json").write_text(text + "\n")
