"""docs/paper.md names functions, settings with defaults and tests that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from marc_core.config import MethodConfig
from marc_core.rl.config import CGrpoConfig

ROOT = Path(__file__).parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs" / "paper.md").read_text().splitlines()
    if re.match(r"\| \d", line)
]


def test_the_table_is_found():
    assert len(ROWS) > 10


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:30])
def test_row_names_what_exists(row):
    _, functions, settings, tests = row
    for name in re.findall(r"`([\w.]+)", functions):
        _resolve(name)
    for path, shown in re.findall(r"`([\w.]+)` \(`?([\w.:]+)", settings):
        value = MethodConfig() if hasattr(MethodConfig(), path.split(".")[0]) else CGrpoConfig()
        for part in path.split("."):
            value = getattr(value, part)
        if path not in ("compress.mode", "student.frame_max_pixels"):  # shown as words
            assert str(value) == shown
    for test in re.findall(r"`([^`]+)`", tests):
        path, _, name = test.partition("::")
        assert (ROOT / "tests" / "marc_core" / path).exists(), test
        if name:
            assert f"def {name}(" in (ROOT / "tests" / "marc_core" / path).read_text(), test


def _resolve(name: str) -> object:
    """Import the longest module prefix of marc_core.<name>, then follow attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(["marc_core", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"marc_core.{name} does not exist")
