"""`marc push`: to a folder, with clear errors; the hub only where it is named."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import jobs.push
from jobs.cli import app
from marc_core.configure import PRESETS_DIR

STUDENT = str(PRESETS_DIR / "tiny" / "student")
runner = CliRunner()


def test_a_student_is_copied_whole(tmp_path):
    result = runner.invoke(app, ["push", STUDENT, str(tmp_path / "copy")])
    assert result.exit_code == 0, result.output
    names = {p.name for p in (tmp_path / "copy").iterdir()}
    assert {"model.safetensors", "marc.json", "tokenizer.json"} <= names


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("EMPTY", "x", "has no config.json, tokenizer.json, *.safetensors"),
        (STUDENT, "EMPTY", "must be a new folder"),
        (STUDENT, "s3://bucket/x", "a folder or hf://OWNER/NAME"),
        (STUDENT, "hf://only-a-name", "hf://OWNER/NAME. Got 'hf://only-a-name'"),
    ],
)
def test_errors_say_what_to_do(source, target, words, tmp_path):
    given = [str(tmp_path) if x == "EMPTY" else x for x in (source, target)]
    result = runner.invoke(app, ["push", *given])
    assert result.exit_code == 2
    assert words in result.stderr


def test_the_hub_gets_a_private_repository(monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, name, **options):
            calls.append((name, options))

        def upload_folder(self, **options):
            calls.append(options)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    result = runner.invoke(app, ["push", STUDENT, "hf://someone/student"])
    assert result.exit_code == 0, result.output
    assert calls[0] == ("someone/student", {"private": True, "exist_ok": True})
    assert calls[1]["repo_id"] == "someone/student"
    assert jobs.push.HUB == "hf://"
