"""The mean of several students' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jobs.average_students import main
from marc_core.configure import PRESETS_DIR
from marc_core.errors import ConfigError
from marc_core.supervised.averaging import average_students


def student(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "marc.json").write_text(folder.name)
    return folder


def test_the_mean_is_weighted_and_keeps_precision_and_files(tmp_path):
    one = student(tmp_path / "one", a=torch.tensor([1.0, 2.0]), b=torch.tensor([8.0]).bfloat16())
    two = student(tmp_path / "two", a=torch.tensor([5.0, -2.0]), b=torch.tensor([4.0]).bfloat16())
    average_students([(one, 3.0), (two, 1.0)], tmp_path / "mean")
    found = load_file(tmp_path / "mean" / "model.safetensors")
    assert found["a"].tolist() == [2.0, 1.0]
    assert found["b"].tolist() == [7.0]
    assert found["b"].dtype == torch.bfloat16
    assert (tmp_path / "mean" / "marc.json").read_text() == "one"


def test_the_mean_of_a_student_with_itself_is_the_student(tmp_path):
    tiny = PRESETS_DIR / "tiny" / "student"
    average_students([(tiny, 1.0), (tiny, 2.0)], tmp_path / "mean")
    one, mean = (load_file(f / "model.safetensors") for f in (tiny, tmp_path / "mean"))
    assert all(torch.equal(one[name], mean[name]) for name in one)
    assert {p.name for p in tiny.iterdir()} == {p.name for p in (tmp_path / "mean").iterdir()}


def test_what_cannot_be_averaged_is_said(tmp_path):
    one = student(tmp_path / "one", a=torch.zeros(2))
    other = student(tmp_path / "other", a=torch.zeros(3))
    (empty := tmp_path / "empty").mkdir()
    for given, output, words in (
        ([(one, 1.0)], "new", "two students at least"),
        ([(one, 1.0), (one, 0.0)], "new", "must be above 0"),
        ([(one, 1.0), (one, float("nan"))], "new", "must be above 0"),
        ([(one, 1.0), (empty, 1.0)], "new", "It has none"),
        ([(one, 1.0), (other, 1.0)], "new", "differ in a"),
        ([(one, 1.0), (one, 1.0)], "one", "must be a new folder"),
    ):
        with pytest.raises(ConfigError, match=words):
            average_students(given, tmp_path / output)
    assert not (tmp_path / "new").exists()


def test_the_command_reads_weights(tmp_path):
    import typer

    app = typer.Typer()
    app.command()(main)
    one, two = (student(tmp_path / n, a=torch.tensor([v])) for n, v in (("x", 0.0), ("y", 3.0)))
    result = CliRunner().invoke(app, [str(tmp_path / "mean"), str(one), f"{two}=2"])
    assert result.exit_code == 0, result.output
    assert load_file(tmp_path / "mean" / "model.safetensors")["a"].item() == 2.0
    result = CliRunner().invoke(app, [str(tmp_path / "m"), str(one), f"{two}=much"])
    assert result.exit_code != 0
    assert "FOLDER=WEIGHT" in result.stderr
