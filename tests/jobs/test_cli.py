"""The command line as its user meets it: help, dry runs, one-line errors."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli import app
from jobs.options import config_file, quoted, split_arguments
from jobs.progress import progress_bar
from jobs.training.cgrpo_config import CGrpoJobConfig
from marc_core.config import AnswerConfig, IndexConfig, load_config
from marc_core.duplicates.config import DedupConfig
from marc_core.errors import ConfigError
from marc_core.evaluation.config import EvaluateConfig
from marc_core.train_set.config import TrainSetConfig
from serving.config import ServeConfig

RUN_ON = {"serve", "mcp"}
"""Commands that run until they are stopped and have no result to print."""
TAKES: dict[str, type] = {
    "search": AnswerConfig, "ask": AnswerConfig, "summarize": AnswerConfig,
    "evaluate": EvaluateConfig,
    "train-set": TrainSetConfig, "train": CGrpoJobConfig, "status": IndexConfig,
    "videos": IndexConfig, "delete": IndexConfig, "optimize": IndexConfig, "gc": ServeConfig,
    "serve": ServeConfig, "dedup": DedupConfig, "export": AnswerConfig, "import": IndexConfig,
}  # fmt: skip
"""Commands whose help shows a setting, and the configuration that it must fit."""
runner = CliRunner()


def commands_of(group: Any, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, *before, name)
        else:
            yield (*before, name), command


EVERY = dict(commands_of(typer.main.get_command(app)))


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_every_help_has_an_example(command: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert re.search(rf"Examples?: marc {' '.join(command)}\b", result.output)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_every_command_that_ends_prints_json(command: tuple[str, ...]) -> None:
    options = {name for parameter in EVERY[command].params for name in parameter.opts}
    assert ("--json" in options) is (command[0] not in RUN_ON)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_the_setting_in_a_help_is_one_that_the_command_takes(command: tuple[str, ...]) -> None:
    texts = " ".join(getattr(p, "help", None) or "" for p in EVERY[command].params)
    example = re.search(r"Settings, e\.g\. (\S+)", texts)
    assert (example is not None) is (" ".join(command) in TAKES)
    if example is not None:
        cls, given = TAKES[" ".join(command)], {}
        if command == ("gc",):  # which has a folder of uploads of its own accord
            given = {"uploads": {"folder": "runs/uploads"}}
        assert load_config(cls, given=given, overrides=[example[1]]) != load_config(
            cls, given=given
        )


def test_dry_run_prints_a_loadable_configuration(tmp_path: Path) -> None:
    odd = tmp_path / "a, b: [c]"
    odd.mkdir()
    result = runner.invoke(app, ["index", str(odd), "events.max_event_s=30", "--dry-run"])
    assert result.exit_code == 0
    file = tmp_path / "resolved.yaml"
    file.write_text(result.output)
    config = load_config(IndexConfig, files=[file])
    assert config.archive == (str(odd),)
    assert config.events.max_event_s == 30


def test_a_dry_run_says_last_what_would_be_done(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"1")
    memory = tmp_path / "memory"
    said = runner.invoke(app, ["index", str(tmp_path), "-m", str(memory), "--dry-run"]).stdout
    lines = said.splitlines()
    plan = lines.index("# 1 video found; 1 would be indexed.")
    assert lines[plan + 1].split() == ["#", "1", "new"]
    first = next(i for i, line in enumerate(lines) if line.startswith("#"))
    assert first > 0
    assert all(line.startswith("# ") for line in lines[first:])
    command = ["index", str(tmp_path / "notes.txt"), "-m", str(memory), "--dry-run"]
    assert "notes.txt' does not look like a video" in runner.invoke(app, command).stdout


def test_a_shipped_configuration_that_does_not_exist_names_those_that_do() -> None:
    assert config_file("train_cgrpo").is_file()
    assert config_file("mine.yaml") == Path("mine.yaml")
    with pytest.raises(ConfigError, match=r"'nope' does not exist.* train_cgrpo, "):
        config_file("nope")


def test_what_was_done_is_said_when_the_user_stops() -> None:
    bar = progress_bar()
    assert bar.how_far().startswith("No video was done yet")
    bar.update(1, 0, 2)
    assert bar.how_far().startswith("1 of 2 videos were done and stay.")


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
        (["index", "NOWHERE", "--dry-run"], ["NOWHERE", "does not exist"]),
        (["serve", "--memory", "NOWHERE", "--dry-run"], ["NOWHERE", "marc index"]),
        (["train", "train_set=NOWHERE"], ["NOWHERE"]),
        (["reload", "NOWHERE"], ["NOWHERE", "does not exist"]),
        (["index", "x", "evnts.max_event_s=3"], ["'evnts'", "Keys there: ", "events"]),
        (
            ["index", "x", "events.max=3", "--dry-run"],
            ["'events.max'", "Keys there: shot_threshold"],
        ),
        (["index", "x", "video.sample_fps=0"], ["video.sample_fps", "above 0"]),
        (["status", "--memory", "NOWHERE"], ["NOWHERE", "marc index", "--memory"]),
        (["videos", "--memory", "NOWHERE"], ["NOWHERE", "marc index", "--memory"]),
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
