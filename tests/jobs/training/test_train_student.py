"""Supervised training on Ray Train: several workers share each step as one would take it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marc_core.config import config_to_yaml, load_config
from marc_core.supervised.config import SupervisedConfig


def losses(output: Path) -> list[float]:
    lines = (output / "curves.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_two_workers_learn_what_one_process_learns(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def marc(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments, "--address", "local"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ("num_videos=4", "first_seed=1", "questions_per_type=1", "videos_per_shard=2")
    report = json.loads(marc("jobs.train_set", *small, f"output={tmp_path / 'set'}", "--json"))
    assert report["videos"] == 4
    settings = [
        f"train_set={report['address']}", "steps=6", "questions_per_step=24", "log_every=1",
        "save_every=6", "learning_rate=0.001", "student.frame_max_pixels=7056",
    ]  # fmt: skip
    for workers in (0, 2):
        output = tmp_path / f"run{workers}"
        config = load_config(SupervisedConfig, overrides=[*settings, f"num_workers={workers}"])
        (tmp_path / "config.yaml").write_text(config_to_yaml(config))
        marc("jobs.train_student", "--config", str(tmp_path / "config.yaml"), f"output={output}")
        assert (output / "student" / "model.safetensors").is_file()
    one, two = losses(tmp_path / "run0"), losses(tmp_path / "run2")
    assert len(one) == len(two) == 6
    # Rank 0 reports its own share of each loss, so curves differ; what is learned does not.
    from safetensors.torch import load_file

    first, second = (load_file(tmp_path / f"run{n}/student/model.safetensors") for n in (0, 2))
    start = load_file("marc_core/presets/tiny/student/model.safetensors")
    moved = sum(float((first[k].float() - start[k].float()).norm()) for k in first)
    apart = sum(float((first[k].float() - second[k].float()).norm()) for k in first)
    assert apart < 0.05 * moved
