"""The benchmarks of the true 3B shape ask what they say they ask."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.serve_baseline import joined, true_shape
from benchmarks.true_steps import STEPS
from benchmarks.true_work import Work, same
from marc_core.config import AnswerConfig, load_config


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


def test_equality_of_checkpoints_looks_into_everything() -> None:
    value = {"state": [{"step": 1, "moment": torch.ones(2)}]}
    assert same(value, {"state": [{"step": 1, "moment": torch.ones(2)}]})
    assert not same(value, {"state": [{"step": 1, "moment": torch.zeros(2)}]})
    assert not same(value, {"state": []})
