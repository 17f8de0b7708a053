"""Whatever goes wrong ends as one line and an exit code; our own errors are called ours."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import clear_errors, user_message
from jobs.terminal import plain
from marc_core.errors import SourceError

runner = CliRunner()


def outcome(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended, clear_errors(lambda: "12 of 40 videos were done."):
        raise error
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SourceError("'[bold]x' is [/gone].\nsecond line"), 2, "'[bold]x' is [/gone]. second line"),
        (OSError(errno.ENOSPC, "No space left on device", "/m/x"), 2, "'/m/x': No space left"),
        (RuntimeError("lance: IO error (os error 28)"), 2, "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/m"), 2, "Change the rights"),
        (KeyboardInterrupt(), 130, "stopped: 12 of 40 videos were done."),
        (ZeroDivisionError("division by zero"), 70, "MARC's own error, not yours: ZeroDivision"),
    ],
)
def test_one_line_and_a_code(error, code, words, capsys) -> None:
    found, printed = outcome(error, capsys)
    assert found == code
    assert words in printed
    assert len(printed.strip().splitlines()) == 1


def test_the_traceback_of_our_own_error_is_kept(capsys) -> None:
    _, printed = outcome(KeyError("lost"), capsys)
    kept = Path(re.search(r"is in (\S+) \(MARC_DEBUG", printed)[1])
    assert "KeyError: 'lost'" in kept.read_text()
    assert "Traceback" in kept.read_text()
    kept.unlink()


def test_debugging_shows_the_traceback(monkeypatch) -> None:
    monkeypatch.setenv("MARC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError), clear_errors():
        raise ZeroDivisionError


def test_a_workers_error_is_the_users_where_its_cause_is() -> None:
    class RayTaskError(Exception):
        cause = SourceError("The store is gone.")

    assert user_message(RayTaskError("Traceback of the worker ...")) == "The store is gone."


def test_a_reader_that_goes_away_ends_the_command_silently() -> None:
    code = "from jobs.errors import clear_errors\nwith clear_errors():\n print('x\\n' * 10**6)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[music] [/i]", "[music] [/i]"),
        ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
        ("caf\udce9.mp4", "caf\\xe9.mp4"),
        ("über", "über"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u2066b\u2069c\u2028d", "a\\u2066b\\u2069c\\u2028d"),
        ("שלום مرحبا", "שלום مرحبا"),
    ],
)
def test_text_from_outside_is_shown_as_it_is(text: str, shown: str) -> None:
    assert plain(text).plain == shown
    assert plain(text).spans == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["index", "NOWHERE"], "does not exist"),
        (["index", "ftp://host/x"], "Archives are local paths or"),
        (["index", "x", "events.max_event=3"], "max_event"),
        (["index", "x", "events.max_event_s=long"], "max_event_s"),
        (["index", "x", "--preset", "huge"], "tiny"),
        (["index", "x", "--config", "BINARY"], "cannot be read"),
        (["index", "x", "--config", "LIST"], "key: value"),
        (["index", "x", "--config", "BROKEN"], "cannot be read"),
        (["index", "x", "--config", "."], "cannot be read"),
        (["status", "-m", "FILE"], "no memory at"),
        (["status", "-m", "ftp://host/x"], "ftp"),
        (["status", "-m", "EMPTY"], "no memory at"),
        (["search", "dog", "-m", "EMPTY"], "no memory at"),
        (["search", "dog", "-m", "EMPTY", "retrieve.k=0"], "retrieve.k must be"),
    ],
)
def test_mistakes_of_a_user(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "BINARY").write_bytes(bytes(range(256)))
    (tmp_path / "LIST").write_text("- a\n- b\n")
    (tmp_path / "BROKEN").write_text("a: [1,\nb: }")
    (tmp_path / "FILE").write_text("not a folder")
    (tmp_path / "EMPTY").mkdir()
    named = {"NOWHERE", "BINARY", "LIST", "BROKEN", "FILE", "EMPTY"}
    result = runner.invoke(app, [str(tmp_path / a) if a in named else a for a in arguments])
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
