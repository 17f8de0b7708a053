"""`marc train` before it trains: plan, resources, one-line errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.train_cgrpo import StepBar
from marc_core.config import StudentConfig
from marc_core.models.student_files import StudentFiles
from tests.jobs.training.plain_sets import sample, write_plain_set
from tests.marc_core.conftest import tiny_model, tiny_tokenizer

runner = CliRunner()


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """A random checkpoint of the 3B student's form."""
    folder = tmp_path_factory.mktemp("student")
    tiny_model("qwen2_5_vl").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_the_plan_of_the_3b_student_on_a_cluster(student, tmp_path):
    """Up to the plan, with weights of its form: all that is checked without a GPU."""
    evidence = StudentFiles(StudentConfig(model=str(student))).evidence("what is red ?", None)
    row = dataclasses.replace(sample(0), evidence=evidence.to_bytes()).to_row()
    pq.write_table(
        pa.Table.from_pylist([row | {"teacher": evidence.to_bytes()}]), tmp_path / "0.parquet"
    )
    result = runner.invoke(
        app,
        ["train", "--preset", "qwen2.5-vl-3b", "--config", "train_cgrpo_3b",
         f"train_set={tmp_path}", f"student.model={student}", "encoder.model=preset:tiny",
         "--dry-run"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    plan = [line for line in result.stdout.splitlines() if line.startswith("#")]
    for line in (
        f"# 1 question in {tmp_path}",
        "# 150 steps of 32 questions with 8 answers",
        "# teacher: 2 x (4 CPU, 1 GPU)",
        "# rollout: 2 x (4 CPU, 1 GPU)",
        "# learner: 4 x (4 CPU, 1 GPU)",
        "# in all: 32 CPU, 8 GPU",
    ):
        assert line in plan


def test_a_set_that_does_not_fit_is_said_in_the_plan(tmp_path):
    place = write_plain_set(tmp_path / "set", 2)
    result = runner.invoke(app, ["train", f"train_set={place}", "--dry-run"])
    assert result.exit_code == 0
    assert "# The training set cannot be read from here: The student must have the" in result.stdout


def test_without_a_training_set_it_says_what_to_name(tmp_path):
    result = runner.invoke(app, ["train", "num_workers=0", f"output={tmp_path}"])
    assert result.exit_code == 2
    assert "num_workers must be at least 1" in result.stderr


def test_what_happened_is_said_at_once_and_steps_now_and_then(capsys):
    bar = StepBar()
    state = {"step": 9, "steps": 20, "metrics": {}, "said": ["An actor died."], "silent_s": 0.0}
    bar.update(state)
    bar.update(state | {"step": 10, "metrics": {"reward": 0.5}, "said": []})
    said = capsys.readouterr().err
    assert said.splitlines() == ["An actor died.", "step 10 of 20: reward 0.500"]
    assert bar.how_far().startswith("Done: 10 steps.")
