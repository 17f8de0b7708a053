"""A whole model from a directory: a fingerprint of everything, clear errors."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from marc_core.config import StudentConfig
from marc_core.errors import ModelLoadError
from marc_core.models.loading import load_model, student_fingerprint
from marc_core.models.student_files import StudentFiles
from marc_core.models.weights import stored_dtype


def config_for(directory, **settings):
    settings = {"device": "cpu", "frame_max_pixels": 32 * 32, "max_new_tokens": 8} | settings
    return StudentConfig(model=str(directory), **settings)


def test_the_fingerprint_follows_weights_and_pixels_only(checkpoint):
    directory = checkpoint("qwen2_5_vl", copy=True)
    base = student_fingerprint(config_for(directory))
    same = [{"max_new_tokens": 3}, {"temporal_positions": "grid"},
            {"dtype": "bfloat16"}]  # fmt: skip
    assert all(student_fingerprint(config_for(directory, **s)) == base for s in same)
    moved = directory.parent / "moved"
    shutil.copytree(directory, moved)
    assert student_fingerprint(config_for(moved)) == base
    assert student_fingerprint(config_for(directory, frame_max_pixels=64)) != base
    model, device, dtype = load_model(config_for(directory))
    assert (device.type, dtype, model.training) == ("cpu", torch.float32, False)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    model.save_pretrained(directory)
    assert student_fingerprint(config_for(directory)) != base


def test_stored_precision_is_that_of_most_numbers(checkpoint):
    """And a model loaded in it leaves the files' pages where they are."""
    directory = checkpoint("qwen2_5_vl", copy=True)
    (file,) = directory.glob("*.safetensors")
    tensors = load_file(file)
    mixed = {n: t if t.ndim == 1 else t.bfloat16() for n, t in tensors.items()}
    assert sum(t.ndim == 1 for t in tensors.values()) > len(tensors) / 3
    save_file(mixed, file, metadata={"format": "pt"})
    assert stored_dtype(directory) == torch.bfloat16
    model, _, dtype = load_model(config_for(directory), dtype=stored_dtype(directory))
    assert dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_chat_template_json_is_found(checkpoint):
    directory = checkpoint("qwen2_5_vl", copy=True)
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": "hello"}))
    assert StudentFiles(config_for(directory)).tokenizer.chat_template == "hello"


def test_another_family_or_damaged_folder_is_refused(checkpoint):
    directory = checkpoint("qwen2_5_vl", copy=True)
    (directory / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelLoadError, match="not a whole safetensors file"):
        load_model(config_for(directory))
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelLoadError, match="qwen2_5_vl"):
        load_model(config_for(directory))
