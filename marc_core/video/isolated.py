"""Decoding in a child process: a file that makes a decoder loop or crash costs that file only.

    IsolatedDecoder --stdin: JSON line--> child (marc_core.video.child)
                    <--data pipe: wire messages--   (a full pipe makes the child wait)
                    <--stderr: last line kept--

One child serves many videos, one at a time. It is killed when it stalls, passes its deadline, or
when a video is left before its end; the next request starts a fresh one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from marc_core import errors
from marc_core.errors import DecoderCrashError, DecodeTimeoutError, VideoError
from marc_core.filenames import shown
from marc_core.types import DecodeSummary, FrameChunk, VideoInfo
from marc_core.video import wire

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.config import VideoConfig
    from marc_core.video.pictures import Stretch

CHILD_COMMAND = (sys.executable, "-P", "-m", "marc_core.video.child")
_PIPE_BYTES = 1 << 20
"""Asked of the kernel for the data pipe; the largest that needs no privilege."""
_STDERR_KEPT_BYTES = 8192
_EXIT_WAIT_S = 5.0


class IsolatedDecoder:
    """Owns the decoding child. Use as a context manager, from one thread.

    with IsolatedDecoder(config) as decoder:
        with decoder.open(path) as stream:
            for chunk in stream: ...
        stream.summary
    """

    def __init__(self, config: VideoConfig, *, command: Sequence[str] = CHILD_COMMAND) -> None:
        self._config = config
        self._command = tuple(command)
        self._child: _Child | None = None

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @property
    def child_pid(self) -> int | None:
        """Process id of the present child, for monitoring."""
        return None if self._child is None else self._child.pid

    def open(self, path: str | Path, *, stream: int = 0) -> DecodeStream:
        """Start decoding a video stream of `path`; returns once the child has opened it.

        Raises UnreadableVideoError, EmptyVideoError, VideoLimitError, DecodeTimeoutError,
        DecoderCrashError; iteration over the stream can raise them too.
        """
        child = self._request("decode", path, {"stream": stream})
        message = self._receive(child, path)
        assert message.kind == "info", message.kind
        return DecodeStream(self, child, path, VideoInfo(**message.fields))

    def read_frames(
        self,
        path: str | Path,
        times_s: Sequence[float],
        *,
        stream: int = 0,
        repaired: bool | None = None,
    ) -> list[NDArray[np.uint8]]:
        """`marc_core.video.read_frames` in the child; raises what `open` raises."""
        times = [float(t) for t in times_s]
        asked = {"times_s": times, "stream": stream, "repaired": repaired}
        child = self._request("read", path, asked)
        found: dict[float, NDArray[np.uint8]] = {}
        while (message := self._receive(child, path)).kind != "end":
            assert message.kind == "frames", message.kind
            arrays = message.arrays
            found |= zip(arrays["times_s"].tolist(), arrays["frames"], strict=True)
        return [found[time_s] for time_s in times]

    def pictures(
        self,
        path: str | Path,
        stretches: Sequence[Stretch],
        *,
        stream: int = 0,
        repaired: bool | None = None,
    ) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """`marc_core.video.pictures.find_pictures` in the child; raises what `open` raises.

        One picture is in memory at a time. Leaving before the end kills the child.
        """
        asked = {"stretches": [[*s] for s in stretches], "stream": stream, "repaired": repaired}
        child = self._request("pictures", path, asked)
        try:
            while (message := self._receive(child, path)).kind != "end":
                assert message.kind == "picture", message.kind
                fields = message.fields
                yield fields["number"], fields["time_s"], message.arrays["frame"]
        finally:
            if not child.idle:
                self.close()

    def _request(self, op: str, path: str | Path, fields: dict[str, Any]) -> _Child:
        if self._child is None or not self._child.idle or not self._child.alive:
            self.close()
            self._child = _Child(self._command)
        child = self._child
        child.idle = False
        child.deadline_s = time.monotonic() + self._config.deadline_per_video_s
        request = {"op": op, "path": os.fspath(path), "config": asdict(self._config), **fields}
        child.send(json.dumps(request))
        return child

    def _receive(self, child: _Child, path: str | Path) -> wire.Message:
        """Return the next message that is not a sign of life; settle the child's fate."""
        try:
            message = self._next_message(child, path)
        except BaseException:
            self.close()
            raise
        if message.kind in ("summary", "end", "error"):
            child.idle = True
        if message.kind == "error":
            raise _error_from(message)
        return message

    def _next_message(self, child: _Child, path: str | Path) -> wire.Message:
        stall_s = self._config.stall_timeout_s

        def read_into(view: memoryview) -> None:
            try:
                child.read_into(view, stall_s)
            except TimeoutError:
                raise DecodeTimeoutError(self._timeout_text(child, path)) from None
            except EOFError:
                raise DecoderCrashError(
                    f"The decoder died on '{shown(path)}': {child.cause_of_death()}."
                ) from None

        while (message := wire.receive(read_into)).kind == "alive":
            pass
        return message

    def _timeout_text(self, child: _Child, path: str | Path) -> str:
        if time.monotonic() >= child.deadline_s:
            limit = self._config.deadline_per_video_s
            return (
                f"Decoding '{shown(path)}' took longer than {limit:g} s. Raise "
                "video.deadline_per_video_s if the video is sound."
            )
        return (
            f"The decoder gave no frame of '{shown(path)}' for {self._config.stall_timeout_s:g} s. "
            "Raise video.stall_timeout_s if the machine or the storage is that slow."
        )


class DecodeStream:
    """Chunks of one video from the child. Iterate once, inside `with`."""

    def __init__(
        self, owner: IsolatedDecoder, child: _Child, path: str | Path, info: VideoInfo
    ) -> None:
        self.info = info
        self._owner, self._child, self._path = owner, child, path
        self._summary: DecodeSummary | None = None
        self._ended = False

    def __enter__(self) -> DecodeStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the video; before its end this kills the child (a start costs little)."""
        if not self._ended:
            self._ended = True
            self._owner.close()

    @property
    def summary(self) -> DecodeSummary:
        """What is known after the last frame; asking earlier is a mistake of the caller."""
        assert self._summary is not None, "read every chunk before asking for the summary"
        return self._summary

    def __iter__(self) -> Iterator[FrameChunk]:
        while not self._ended:
            try:
                message = self._owner._receive(self._child, self._path)
            except VideoError as error:
                self._ended = True
                error.num_streams = self.info.num_streams
                raise
            if message.kind == "summary":
                self._summary = wire.summary_from_fields(message.fields)
                self._ended = True
                return
            yield wire.chunk_of(message)


class _Child:
    """A child process with its pipes."""

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
                env=_environment(),
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

    def read_into(self, view: memoryview, stall_s: float) -> None:
        """Fill `view`. Raises TimeoutError (no byte for `stall_s`, or deadline), EOFError."""
        until_s = min(time.monotonic() + stall_s, self.deadline_s)
        while view:
            try:
                count = os.readv(self._fd, [view])
            except BlockingIOError:
                self._wait(until_s)
                continue
            if count == 0:
                raise EOFError
            view = view[count:]
            until_s = min(time.monotonic() + stall_s, self.deadline_s)

    def _wait(self, until_s: float) -> None:
        left_s = until_s - time.monotonic()
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


def _environment() -> dict[str, str]:
    """Return the child's environment: finds this very package, keeps libraries single-threaded."""
    root = str(Path(errors.__file__).parents[1])
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": root if not known else root + os.pathsep + known,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _error_from(message: wire.Message) -> VideoError:
    kind = getattr(errors, message.fields["type"])
    assert issubclass(kind, VideoError)
    error = kind(message.fields["message"])
    assert isinstance(error, VideoError)
    error.num_streams = message.fields.get("num_streams")
    return error
