"""How far a command is, as a job's log tells it."""

from __future__ import annotations

import time

import pytest

from jobs import progress
from jobs.progress import progress_bar


def test_a_log_hears_of_a_command_though_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "REPEAT_S", 0.02)
    with progress_bar() as update:
        update(3, 1, 22)
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 2
    assert all(line.startswith("indexed 3 of 22 videos, 1 failed") for line in said)


def test_texts_are_counted_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", -1.0)
    bar = progress_bar()
    with bar as update:
        update(22, 2, 22)
        bar.update_texts(3, 0, 20)
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "indexed 22 of 22 videos, 2 failed",
        "texts: 3 of 20 videos, 0 failed",
    ]
    assert bar.how_far().startswith("22 of 22 videos were done")
