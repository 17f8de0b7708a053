"""`marc index`: what the pipeline is told."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs import index
from jobs.cli import app


def test_workers_are_told_the_whole_path_of_a_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a Ray that was started in another folder would look for it there."""
    told: list[str] = []

    def index_archive(config: Any, *_: Any) -> SimpleNamespace:
        told.append(config.memory.uri)
        return SimpleNamespace(to_json=dict, embeddings_missing=0, failed_fraction=0.0, blind=False)

    (tmp_path / "archive").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.index.index_archive", index_archive)
    monkeypatch.setattr(index, "ray_session", lambda _: nullcontext())
    for place in ("memories/m", "s3://bucket/m"):
        made = CliRunner().invoke(app, ["index", "archive", "--memory", place, "--json"])
        assert made.exit_code == 0, made.output
    assert told == [str(tmp_path / "memories" / "m"), "s3://bucket/m"]
