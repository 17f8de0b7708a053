"""`marc videos` of a small real memory: names, filters, pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs import videos
from jobs.cli import app
from tests.marc_core.memories import ODD_NAME

runner = CliRunner()


@pytest.fixture(scope="module")
def memory(small_memory: Path) -> Path:
    return small_memory / "runs" / "memory"


def run(memory: Path, *arguments: str) -> Any:
    result = runner.invoke(app, ["videos", "--memory", str(memory), *arguments])
    assert result.exit_code == 0, result.output
    return result


def listed(memory: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(memory, *arguments, "--json").stdout)
    return found


def test_every_video_is_listed_by_name(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "out", Console(width=250))
    result = run(memory)
    assert "video1.mp4" in result.output
    assert result.output.count(ODD_NAME) == 2  # with their folders: the name alone says not which
    assert "3 videos." in result.stderr
    assert f"Folders are below {memory.parents[1] / 'archive'}." in result.stderr
    cells = [[c.strip() for c in line.split("│")] for line in result.output.splitlines()]
    assert [row[2] for row in cells if row[1:2] == [ODD_NAME]] == ["a", "b"]


def test_filters_and_pages_narrow_the_list(memory: Path) -> None:
    archive = memory.parents[1] / "archive"
    every = listed(memory)
    assert every["total"] == 3
    assert [v["uri"] for v in every["videos"]] == sorted(v["uri"] for v in every["videos"])
    assert [v["name"] for v in listed(memory, "--name", "VIDEO1")["videos"]] == ["video1.mp4"]
    (one,) = listed(memory, "--folder", str(archive / "a"))["videos"]
    assert one["uri"] == str(archive / "a" / ODD_NAME)
    assert one["num_events"] > 0
    assert listed(memory, "--status", "failed") == {"total": 0, "videos": []}
    assert listed(memory, "--camera", "gate")["total"] == 0
    page = listed(memory, "-k", "1", "--offset", "1")
    assert (page["total"], page["videos"]) == (3, every["videos"][1:2])
    assert "--offset 2 goes on" in run(memory, "-k", "1", "--offset", "1").stderr
