"""How commands end when something goes wrong: one line on standard error, and an exit code.

2    the user can mend it (MarcError, no space, no permission): the rule and the remedy
70   MARC's own error: where the traceback is kept; MARC_DEBUG=1 prints it instead
130  Ctrl-C: what is done and how to go on
141  nobody reads the output any more (`| head`): silent
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import typer
from typer.exceptions import TyperException

from jobs.terminal import console, plain
from marc_core.errors import MarcError

USER_ERROR, OWN_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 70, 130, 141
_REMEDIES = {
    errno.ENOSPC: "The disk is full. Free some space and run again: what is written stays.",
    errno.EDQUOT: "The disk quota is used up. Free some space and run again.",
    errno.EFBIG: "A file would become larger than this system allows (ulimit -f).",
    errno.EROFS: "This folder is on a read-only disk. Name another one.",
    errno.EACCES: "This user may not do that there. Change the rights, or name another folder.",
    errno.EPERM: "This user may not do that there. Change the rights, or name another folder.",
    errno.EMFILE: "Too many files are open. Raise `ulimit -n`.",
    errno.EISDIR: "A folder stands where a file is needed. Name another one.",
    errno.ENOTDIR: "A file stands where a folder is needed. Name another one.",
    errno.EEXIST: "A file stands where a folder is needed. Name another one.",
    errno.ENOENT: "A file or folder is missing. Check the path.",
}


@contextmanager
def clear_errors(when_interrupted: Callable[[], str] = lambda: "Stopped.") -> Iterator[None]:
    """Turn whatever goes wrong inside into one line on standard error and an exit code."""
    try:
        try:
            yield
        except typer.Exit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        _print(when_interrupted(), "yellow", "stopped:")
        sys.exit(INTERRUPTED)
    except (typer.Exit, typer.Abort, TyperException):
        raise
    except Exception as error:
        if os.environ.get("MARC_DEBUG"):
            raise
        message = user_message(error)
        if message is not None:
            _print(message)
            sys.exit(USER_ERROR)
        kept = _keep_traceback(error)
        _print(
            f"MARC's own error, not yours: {_first_line(error)}. {kept} Please report it with what "
            "you ran."
        )
        sys.exit(OWN_ERROR)


def user_message(error: BaseException) -> str | None:
    """Return what a user can do about `error`, or None where it is our own."""
    cause = getattr(error, "cause", None)  # Ray's errors carry that of the worker
    if isinstance(cause, Exception):
        return user_message(cause)
    if isinstance(error, MarcError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        where = f"'{error.filename}': " if error.filename else ""
        return f"{where}{error.strerror}. {_REMEDIES[error.errno]}"
    if "timed out during startup" in str(error):  # Ray has no class for it
        return (
            "Ray did not start in time: this machine is too busy. Try again, or give it longer: "
            "export RAY_raylet_start_wait_time_s=300."
        )
    found = re.search(r"\(os error (\d+)\)", str(error))  # LanceDB's errors have no errno
    if found and int(found[1]) in _REMEDIES:
        return _REMEDIES[int(found[1])]
    return None


def _print(message: str, style: str = "bold red", label: str = "error:") -> None:
    line = plain(label, style).append(" ").append_text(plain(message, "not bold default"))
    with suppress(BrokenPipeError):
        console.print(line, highlight=False, soft_wrap=True)


def _first_line(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _keep_traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="marc-error-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{sys.argv}\n{text}")
    except OSError:
        sys.stderr.write(text)
        return "Its traceback is above."
    return f"Its traceback is in {path} (MARC_DEBUG=1 prints it)."


def _forget_output() -> None:
    """Let the interpreter flush what is left of its output into nothing as it ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
