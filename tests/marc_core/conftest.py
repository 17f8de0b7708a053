"""Tiny random students of the three families, built in code: real architectures, no weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marc_core.compress import compress_across
from marc_core.config import CompressConfig, StudentConfig
from marc_core.evidence import Evidence
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import VisionTower

WORDS = [
    "what", "is", "red", "blue", "the", "a", "A", "B", "C", "D", ".", ":", "?", "Options", "Answer",
    "with", "letter", "of", "right", "option", "only", "user", "assistant", "<", ">", "seconds",
    *"0123456789",
]  # fmt: skip
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip

MRoPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}


def tiny_tokenizer() -> Any:
    """Word-level tokenizer with the control tokens of the Qwen-VL families."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate([*SPECIAL, "[UNK]", *WORDS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[t for t in SPECIAL if t not in ("<|im_end|>", "<|endoftext|>")],
    )


@pytest.fixture
def tokenizer() -> Any:
    return tiny_tokenizer()


def tiny_config(family: str, tokenizer: Any) -> Any:
    """Configuration of a model of about 100,000 parameters."""
    import transformers as tf

    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 4096, "rope_parameters": dict(MRoPE), "pad_token_id": 0,
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": True,
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 4, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
    if family == "qwen2_vl":
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
        return tf.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    if family == "qwen2_5_vl":
        vision |= {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32,
                   "window_size": 16, "fullatt_block_indexes": [1, 3],
                   "tokens_per_second": 2}  # fmt: skip
        return tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    text |= {"head_dim": 8, "rope_parameters": {**MRoPE, "mrope_interleaved": True}}
    vision |= {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32,
               "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2]}  # fmt: skip
    return tf.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)


def tiny_model(family: str) -> Any:
    """A seeded float32 model of the family, far from uniform predictions."""
    from transformers import AutoModelForImageTextToText

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(tiny_config(family, tiny_tokenizer()))
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "visual" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Factory: checkpoint("qwen2_5_vl") -> directory of a tiny saved student, shared by the
    session; copy=True gives one to change."""
    root, saved = tmp_path_factory.mktemp("checkpoints"), {}

    def make(family: str = "qwen2_5_vl", *, copy: bool = False) -> Path:
        if family not in saved:
            tiny_model(family).save_pretrained(root / family)
            tiny_tokenizer().save_pretrained(root / family)
            saved[family] = root / family
        if not copy:
            return saved[family]
        return Path(shutil.copytree(saved[family], tmp_path_factory.mktemp("copy") / family))

    return make


@pytest.fixture(scope="session")
def make_tower(student_config: Callable[..., StudentConfig]) -> Callable[..., Any]:
    """Factory: make_tower("qwen2_5_vl") -> VisionTower of a tiny saved student."""
    from marc_core.models.vision_tower import VisionTower

    return lambda family="qwen2_5_vl", **settings: VisionTower(student_config(family, **settings))


@pytest.fixture
def make_frames() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Factory: make_frames(6, seed=0) -> (frames (6, 24, 32, 3) uint8, times_s at 1 fps)."""

    def make(num: int, *, seed: int = 0, size: tuple[int, int] = (24, 32), start_s: float = 0.0):
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 256, (num, *size, 3), dtype=np.uint8)
        return frames, start_s + np.arange(num, dtype=np.float64)

    return make


@pytest.fixture(scope="session")
def student_config(checkpoint: Callable[..., Path]) -> Callable[..., StudentConfig]:
    """Factory: student_config("qwen3_vl", max_new_tokens=4) of a tiny saved student."""

    def make(family: str = "qwen2_5_vl", **settings: Any) -> StudentConfig:
        defaults = {"device": "cpu", "frame_max_pixels": 32 * 32, "max_new_tokens": 8}
        return StudentConfig(model=str(checkpoint(family)), **defaults | settings)

    return make


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., Evidence]:
    """Factory: make_evidence(config, "what is red ?", groups=2, seed=1) -> Evidence of random
    frames compressed to that many groups; groups=0 gives a prompt of text only."""
    towers: dict[StudentConfig, tuple[VisionTower, StudentFiles]] = {}

    def make(
        config: StudentConfig, text: str = "what is red ?", *, groups: int = 1, seed: int = 0,
        size: tuple[int, int] = (24, 32), **shown: Any,
    ) -> Evidence:  # fmt: skip
        if config not in towers:
            towers[config] = VisionTower(config), StudentFiles(config)
        tower, files = towers[config]
        if not groups:
            return files.evidence(text, None, **shown)
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 256, (2 * groups + 4, *size, 3), dtype=np.uint8)
        features = tower.encode_events([(frames, np.arange(len(frames), dtype=np.float64))])
        budget_tokens = groups * features[0].groups_TPD.shape[1]
        compress = CompressConfig(mode="plain", budget_tokens=budget_tokens, event_ratio=1.0)
        return files.evidence(text, compress_across(features, compress), **shown)

    return make
