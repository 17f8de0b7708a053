"""A child process that is asked over its stdin and answers with wire messages on a pipe.

It may die or hang at any time: reading from it ends by a time limit, and tells how it died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marc_core import errors
from marc_core.video import wire

_PIPE_BYTES = 1 << 20
"""Asked of the kernel for the data pipe; the largest that needs no privilege."""
_STDERR_KEPT_BYTES = 8192
_EXIT_WAIT_S = 5.0


class Child:
    """A child process with its pipes; `command` is given the data pipe's number as an argument.

    idle: whether it waits for a request; the owner says. deadline_s: of `time.monotonic`, past
    which it is waited for no longer.
    """

    def __init__(self, command: Sequence[str]) -> None:
        read_fd, write_fd = os.pipe()
        self.idle = True
        self.deadline_s = float("inf")
        self._stderr = b""
        try:
            self._process = subprocess.Popen(
                [*command, str(write_fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[write_fd],
                env=child_environment(),
                start_new_session=True,  # Ctrl-C is for the parent, which may let it finish
            )
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self._fd = read_fd
        with contextlib.suppress(OSError):  # refused where the user's pipes are many already
            fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        assert self._process.stderr is not None
        self._stderr_fd = self._process.stderr.fileno()
        for fd in (read_fd, self._stderr_fd):
            os.set_blocking(fd, False)
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)
        self._poll.register(self._stderr_fd, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its death is noticed by the next read
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def send_message(self, kind: str, fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Write a wire message to its stdin; blocks while that is full."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            wire.send(self._process.stdin.fileno(), kind, fields, arrays)

    def read_into(self, view: memoryview, stall_s: float) -> None:
        """Fill `view`. Raises TimeoutError (no byte for `stall_s`, or deadline), EOFError.

        Time in which the child waited for a core is no stall: a busy machine is late, not broken.
        """
        stall = _Stall(self.pid, stall_s)
        while view:
            try:
                count = os.readv(self._fd, [view])
            except BlockingIOError:
                self._wait(stall)
                continue
            if count == 0:
                raise EOFError
            view = view[count:]
            stall = _Stall(self.pid, stall_s)

    def _wait(self, stall: _Stall) -> None:
        left_s = min(stall.left_s(), self.deadline_s - time.monotonic())
        if left_s <= 0:
            raise TimeoutError
        for fd, _ in self._poll.poll(left_s * 1000):
            if fd == self._stderr_fd:
                self._read_stderr()

    def _read_stderr(self) -> None:
        try:
            text = os.read(self._stderr_fd, 65536)
        except BlockingIOError:
            return
        if not text:
            self._poll.unregister(self._stderr_fd)
        self._stderr = (self._stderr + text)[-_STDERR_KEPT_BYTES:]

    def cause_of_death(self) -> str:
        """Return how the child ended: signal or exit code, and the last line it printed."""
        try:
            code = self._process.wait(_EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with contextlib.suppress(KeyError):
            self._read_stderr()
        lines = self._stderr.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{how}; {last}" if last else how

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        os.close(self._fd)


class _Stall:
    """How long a process that gives nothing may go on so, from its first `left_s` on."""

    def __init__(self, pid: int, stall_s: float) -> None:
        self._pid, self._until_s = pid, time.monotonic() + stall_s
        self._queued: dict[str, float] | None = None

    def left_s(self) -> float:
        """Return the seconds left; when they are over, what it waited for a core is added."""
        now_s = time.monotonic()
        if self._queued is None:
            self._queued = queued_s(self._pid)
        elif now_s >= self._until_s:
            before, self._queued = self._queued, queued_s(self._pid)
            waited = [after_s - before.get(task, 0.0) for task, after_s in self._queued.items()]
            self._until_s += max(waited, default=0.0)
        return self._until_s - now_s


def queued_s(pid: int) -> dict[str, float]:
    """Return how long each thread of a process has been ready to run and had no core, by its id;
    nothing where the system does not tell (Linux does)."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found[task.parent.name] = int(task.read_text().split()[1]) / 1e9
    return found


def child_environment() -> dict[str, str]:
    """Return a child's environment: finds this very package, keeps libraries single-threaded."""
    root = str(Path(errors.__file__).parents[1])
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": root if not known else root + os.pathsep + known,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
