"""A student from a directory: same answers as in memory, a fingerprint, clear errors."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from marc_core.compress import compress_across, compress_event
from marc_core.config import CompressConfig, StudentConfig
from marc_core.errors import ModelLoadError
from marc_core.models.loading import load_student, student_fingerprint


@pytest.fixture
def saved(tmp_path, make_student):
    student = make_student("qwen2_5_vl")
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    return tmp_path, student


def config_for(directory, **settings):
    settings = {"device": "cpu", "frame_max_pixels": 32 * 32, "max_new_tokens": 8} | settings
    return StudentConfig(model=str(directory), **settings)


def test_a_saved_student_answers_like_the_original(saved, make_frames):
    directory, student = saved
    loaded = load_student(config_for(directory))
    answers = []
    for s in (student, loaded):
        with torch.no_grad():
            (event,) = s.encode_events([make_frames(8)])
        video = compress_across([compress_event(event, CompressConfig())], CompressConfig())
        answers.append(s.generate(["what is red ?"], [video])[0])
    assert answers[0].token_ids == answers[1].token_ids
    assert not loaded.model.training


def test_the_fingerprint_follows_weights_and_pixels_only(saved):
    directory, student = saved
    base = student_fingerprint(config_for(directory))
    same = [{"max_new_tokens": 3}, {"temporal_positions": "grid"},
            {"dtype": "bfloat16"}]  # fmt: skip
    assert all(student_fingerprint(config_for(directory, **s)) == base for s in same)
    moved = directory.parent / "moved"
    shutil.copytree(directory, moved)
    assert student_fingerprint(config_for(moved)) == base
    assert student_fingerprint(config_for(directory, frame_max_pixels=64)) != base
    with torch.no_grad():
        next(student.model.parameters()).add_(1e-3)
    student.model.save_pretrained(directory)
    assert student_fingerprint(config_for(directory)) != base


def test_chat_template_json_is_found(saved):
    directory, _ = saved
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": "hello"}))
    assert load_student(config_for(directory)).tokenizer.chat_template == "hello"


def test_another_family_or_damaged_folder_is_refused(saved):
    directory, _ = saved
    (directory / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelLoadError, match="not a whole safetensors file"):
        load_student(config_for(directory))
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelLoadError, match="qwen2_5_vl"):
        load_student(config_for(directory))
