"""`make` installs in one step, also where PyTorch's own index cannot be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.fresh import ROOT

INDEX = "https://torch.invalid/whl/cpu"
PYTHON = """#!/bin/sh
# Stands for Python and for pip: notes each call of pip, and fails those that FAIL names.
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip "*)
    echo "$*" >>"$CALLS"
    case "$*" in *--index-url*) kind=index ;; *" torch") kind=own ;; *) kind=rest ;; esac
    case " $FAIL " in *" $kind "*) exit 1 ;; esac ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def install(folder: Path, *, index: str = INDEX, fail: str = "") -> tuple[int, str, list[str]]:
    """Return make's exit code, what it says, and the calls of pip."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    settings = [f"PYTHON={python}", "VENV=env", f"TORCH_INDEX={index}"]
    ended = subprocess.run(
        ["make", "--silent", *settings, "env/.installed"],
        cwd=folder,
        env={**os.environ, "CALLS": str(calls), "FAIL": fail, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (folder / "env" / ".installed").exists() == (ended.returncode == 0)
    return ended.returncode, ended.stdout, calls.read_text().splitlines()


def test_the_index_of_torch_is_asked_first(tmp_path: Path) -> None:
    code, said, (torch, rest) = install(tmp_path)
    assert (code, said) == (0, "")
    assert f"--index-url {INDEX} torch" in torch
    assert "--retries 0 --timeout 15" in torch
    assert rest.endswith("--editable .[dev,speech,ocr]")


def test_pips_own_index_is_taken_where_that_one_fails(tmp_path: Path) -> None:
    code, said, (_, torch, rest) = install(tmp_path, fail="index")
    assert (code, len(said.splitlines())) == (0, 1)
    assert INDEX in said
    assert "--constraint constraints.txt --no-deps torch" in torch
    assert "--index-url" not in torch
    assert rest.endswith("--editable .[dev,speech,ocr]")


def test_where_both_fail_make_says_what_to_do(tmp_path: Path) -> None:
    code, said, calls = install(tmp_path, fail="index own")
    assert (code, len(calls)) == (2, 2)
    assert "make TORCH_INDEX=URL" in said


def test_an_empty_index_is_pips_own(tmp_path: Path) -> None:
    code, said, (rest,) = install(tmp_path, index="")
    assert (code, said) == (0, "")
    assert rest.endswith("--editable .[dev,speech,ocr]")
