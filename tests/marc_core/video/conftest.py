"""Odd media, rendered once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.odd_media import make_odd_files


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of odd files (see benchmarks/odd_media.py)."""
    folder = tmp_path_factory.mktemp("odd")
    make_odd_files(folder)
    return folder
