"""The benchmarks of the true 3B shape ask what they say they ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import model_memory
from benchmarks.serve_baseline import joined, true_shape
from benchmarks.true_steps import STEPS
from benchmarks.true_work import Work, same
from marc_core.config import AnswerConfig, StudentConfig, load_config
from marc_core.models.loading import load_model


def test_one_half_of_the_result_keeps_the_other() -> None:
    tiny, large = {"p50_ms": 1}, {"p50_ms": 2}
    both = joined(tiny, large, true_shape=True)
    assert both == {"p50_ms": 1, "true_shape": large}
    assert joined(both, {"p50_ms": 3}, true_shape=False) == {"p50_ms": 3, "true_shape": large}


def test_both_arms_ask_the_paper_s_frames(tmp_path: Path) -> None:
    """The tiny preset's frames of 84 x 84 would make the baseline nine times cheaper."""
    case = true_shape(str(tmp_path), 252)
    config = load_config(AnswerConfig, preset=case.preset, overrides=case.overrides())
    assert config.student.frame_max_pixels >= case.size_px**2
    assert config.video.frame_max_pixels >= case.size_px**2
    assert config.encoder.model == "preset:tiny"


def test_training_of_the_true_shape_is_the_cluster_s_on_one_machine(tmp_path: Path) -> None:
    config = Work(tmp_path).training()
    assert (config.learner.lora_rank, config.learner.gradient_checkpointing) == (8, True)
    assert (config.use_gpu, config.rollout_pool.gpus, config.teacher_pool.gpus) == (False, 0, 0)
    assert config.optimizer.kind == "adamw"
    assert config.student.model == str(tmp_path / "student")
    assert config.student.dtype == "auto"
    assert list(STEPS)[:3] == ["load", "encode", "compress"]


def test_random_weights_tell_prompts_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With norms as small as matrices every next token is as likely as any other."""
    small = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4}
    rope = {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6}
    for name, value in (small | {"vocab_size": 2000, "rope_parameters": rope}).items():
        monkeypatch.setitem(model_memory.TEXT, name, value)
    vision = {"hidden_size": 64, "intermediate_size": 64, "depth": 1, "num_heads": 4}
    for name, value in (vision | {"out_hidden_size": 256, "fullatt_block_indexes": [0]}).items():
        monkeypatch.setitem(model_memory.VISION, name, value)
    model_memory.write_checkpoint(tmp_path, layers=2)
    model, _, _ = load_model(StudentConfig(model=str(tmp_path), device="cpu"))
    assert len(model.model.language_model.layers) == 2
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[5, 6, 7], [5, 6, 8]])).logits[:, -1].float()
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert (entropy < 0.999 * torch.tensor(2000.0).log()).all()
    assert (logits[0] - logits[1]).abs().max() > 0.1


def test_equality_of_checkpoints_looks_into_everything() -> None:
    value = {"state": [{"step": 1, "moment": torch.ones(2)}]}
    assert same(value, {"state": [{"step": 1, "moment": torch.ones(2)}]})
    assert not same(value, {"state": [{"step": 1, "moment": torch.zeros(2)}]})
    assert not same(value, {"state": []})
