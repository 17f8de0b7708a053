"""The command line as its user meets it: help, dry runs, one-line errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.options import quoted, split_arguments
from marc_core.config import IndexConfig, load_config

COMMANDS = sorted(
    command.callback.__name__.replace("_", "-") for command in app.registered_commands
)
runner = CliRunner()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str) -> None:
    result = runner.invoke(app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"marc {command}" in result.output
    assert "Example" in result.output


def test_dry_run_prints_a_loadable_configuration(tmp_path: Path) -> None:
    odd = tmp_path / "a, b: [c]"
    result = runner.invoke(app, ["index", str(odd), "events.max_event_s=30", "--dry-run"])
    assert result.exit_code == 0
    file = tmp_path / "resolved.yaml"
    file.write_text(result.output)
    config = load_config(IndexConfig, files=[file])
    assert config.archive == (str(odd),)
    assert config.events.max_event_s == 30


@pytest.mark.parametrize("text", ["plain", 'quo"te', "a: b, [c] {d}", "${x}", "ümläut\\n", "1"])
def test_quoting_survives_the_configuration(text: str) -> None:
    config = load_config(IndexConfig, overrides=[f"memory.uri={quoted(text)}"])
    assert config.memory.uri == text


def test_split_arguments() -> None:
    plain, settings = split_arguments(["a=b/c.mp4", "/x=y", "video.backend=decord", "dir"])
    assert plain == ["/x=y", "dir"]
    assert settings == ["a=b/c.mp4", "video.backend=decord"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["index"], ["No archive", "marc index"]),
        (["index", "x", "video.sample_fps=0"], ["video.sample_fps", "above 0"]),
        (["status", "--memory", "NOWHERE"], ["NOWHERE", "marc index"]),
        (["status", "memory.uri=NOWHERE"], ["NOWHERE", "marc index"]),
        (["status", "runs/memory"], ["key=value", "runs/memory"]),
        (["delete", "a.mp4", "--config", "NOWHERE"], ["NOWHERE", "does not exist"]),
        (["ask", "what?", "--memory", "NOWHERE"], ["NOWHERE", "marc index"]),
    ],
)
def test_errors_are_one_line(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    arguments = [a.replace("NOWHERE", str(tmp_path / "nowhere")) for a in arguments]
    words = [w.replace("NOWHERE", str(tmp_path / "nowhere")) for w in words]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_error_ends_the_real_command_with_one_line() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "index", "x", "retrieve.k=0"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "error: retrieve.k must be at least 1. Got 0.\n"
