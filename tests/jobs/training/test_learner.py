"""Training in one process, with the tiny preset: equality after a cut, options, the guard."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from jobs.training.cgrpo_config import CGrpoJobConfig
from marc_core.config import load_config
from tests.jobs.training.one_process import run_here
from tests.jobs.training.train_sets import write_train_set

SMALL = (
    "steps=4", "save_every=2", "rollout.questions=4", "rollout.answers=4", "loss.kl=0.01",
    "rollout.teacher_answers=2", "rollout.max_tokens=6", "trackers=[]",
    "optimizer.kind=adamw",
)  # fmt: skip
TIMES = ("_s", "idle_", "queued_", "tokens_per_s", "asked", "cached", "restarts")


@pytest.fixture(scope="module")
def train_set(tmp_path_factory):
    return write_train_set(tmp_path_factory.mktemp("set") / "rows", 14)


def small(output, train_set, *overrides: str) -> CGrpoJobConfig:
    return load_config(
        CGrpoJobConfig,
        preset="tiny",
        overrides=[f"output='{output}'", f"train_set='{train_set}'", *SMALL, *overrides],
    )


def trained(points):
    """What must be the same of two runs: all but times and what the cache spares."""
    return [{k: v for k, v in p.items() if not any(part in k for part in TIMES)} for p in points]


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, train_set):
    whole = run_here(small(tmp_path / "whole", train_set))
    assert [p["step"] for p in whole] == [1, 2, 3, 4]
    assert all(p["sampler_gap"] < 1e-4 for p in whole), "rollouts and trainer disagree"
    assert all(p["versions_behind"] == 0 for p in whole)
    cut = run_here(small(tmp_path / "cut", train_set), steps=3)
    assert [p["step"] for p in cut] == [1, 2, 3]
    resumed = run_here(small(tmp_path / "cut", train_set))
    assert trained(resumed) == trained(whole)
    assert sum(p["asked"] for p in resumed) == 14, "the teacher is asked once"
    assert len({p["grad_norm"] for p in whole}) > 1


def test_rollouts_that_run_ahead_are_weighted(tmp_path, train_set):
    points = run_here(
        small(tmp_path, train_set, "rollout.versions_behind=1", "optimizer.learning_rate=1e-3")
    )
    assert [p["versions_behind"] for p in points] == [0, 1, 1, 1]
    assert "stale_weight" in points[1]
    behind = [after for before, after in pairwise(points) if before["grad_norm"]]
    assert behind, "no step has changed anything"
    assert all(p["stale_weight"] != 1.0 for p in behind)


@pytest.mark.parametrize(
    "kind", ["log_probs", pytest.param("distribution", marks=pytest.mark.slow)]
)
def test_the_teacher_is_a_judge_of_every_token(tmp_path, train_set, kind):
    overrides = ("loss.distillation_weight=1", f"loss.distillation={kind}", "steps=2")
    points = run_here(small(tmp_path, train_set, *overrides))
    assert all(abs(p["divergence"]) > 0 for p in points)


def test_weights_that_are_broken_stop_the_run_and_name_the_checkpoint(tmp_path, train_set):
    def break_it(controller, learner):
        save = learner._save

        def broken():
            save()
            with torch.no_grad():
                next(p for p in learner.policy.parameters() if p.requires_grad).fill_(torch.nan)

        learner._save = broken

    points = run_here(small(tmp_path, train_set, "loss.kl=0.02"), watch=break_it)
    stopped = points[-1]["stopped"]
    assert "Training stopped at step 2" in stopped
    assert "not finite" in stopped
    assert "Last good checkpoint: step 2 below" in stopped
    assert [p["step"] for p in points[:-1]] == [1, 2]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_lora_trains_sends_and_saves_thin_matrices_alone(tmp_path, train_set):
    from safetensors.torch import load_file

    from jobs.training.export import export_student
    from marc_core.models.student_files import StudentFiles
    from marc_core.training.session import read_checkpoint

    config = small(
        tmp_path, train_set, "learner.lora_rank=4", "optimizer.learning_rate=1e-2", "steps=4"
    )
    run_here(config, steps=3)
    points = run_here(config)
    assert [p["step"] for p in points] == [1, 2, 3, 4]
    assert all(p["sampler_gap"] < 1e-4 for p in points), "actors have other adapters"
    assert points[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert points[-1]["kl"] > 1e-6
    weights = read_checkpoint(tmp_path / "kept" / "000004").weights
    assert all(".lora_" in name for name in weights)
    before = load_file(StudentFiles(config.student).directory / "model.safetensors")
    after = load_file(
        export_student(config, weights, tmp_path / "student", 14) / "model.safetensors"
    )
    assert before.keys() == after.keys()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert {after[name].dtype for name in after} == {torch.bfloat16}, "the precision of the start"
    layer = "language_model.layers.0.mlp.up_proj"
    a, b = (weights[f"model.{layer}.lora_{x}.marc.weight"].float() for x in "AB")
    (name,) = (n for n in after if n.endswith(f"{layer}.weight"[15:]) and "visual" not in n)
    exact = before[name].float() + config.learner.lora_alpha / 4 * (b @ a)
    assert torch.equal(after[name], exact.bfloat16()), "rounded once"
    assert all("proj" in name and "visual" not in name for name in changed)
