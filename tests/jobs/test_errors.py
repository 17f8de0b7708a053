"""Whatever goes wrong ends as one line and an exit code; our own errors are called ours."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import COMMANDS, app
from jobs.errors import clear_errors, user_message
from jobs.terminal import plain
from marc_core.config import MemoryConfig
from marc_core.errors import SourceError
from marc_core.memory import MemoryStore

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


def without_reader(*command: str) -> tuple[int, bytes]:
    """Return a command's exit code and standard error where nobody reads its output."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, *command],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    finally:
        os.close(writer)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("options", [[], pytest.param(["--json"], marks=pytest.mark.slow)])
def test_status_into_head_ends_silently(options: list[str], tmp_path: Path) -> None:
    config = MemoryConfig(uri=str(tmp_path / "memory"))
    MemoryStore.open(config, embedding_dim=4, encoder_fingerprint="e", create=True)
    command = ["-m", "jobs.cli", "status", "-m", config.uri, *options]
    assert without_reader(*command) == (141, b"")


@pytest.mark.parametrize(
    "last", ["out.print('x')", "print('x')", "print('x'); raise typer.Exit(1)"]
)
def test_what_a_command_prints_at_its_end_ends_it_silently(last: str) -> None:
    code = f"""
import typer
from jobs.errors import clear_errors
from jobs.terminal import out
app = typer.Typer()
def loud() -> None:
    with clear_errors():
        pass
    {last}
app.command()(clear_errors()(loud))
app([])
"""
    assert without_reader("-c", code) == (141, b"")


def test_every_command_is_guarded_to_its_end() -> None:
    bare = [c.callback for c in app.registered_commands if c.callback in COMMANDS]
    assert bare == []
    assert len(app.registered_commands) == len(COMMANDS)


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
