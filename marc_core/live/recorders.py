"""The parent's side of recording children: start them, hear them, start them again.

RecorderProcess --stdin: request, `stop`--> marc_core.live.recorder
                <--stdout: JSON lines--     a thread puts (source id, message) into the inbox
"""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.recorder import request_of
from marc_core.video.process import child_environment

COMMAND = (sys.executable, "-P", "-m", "marc_core.live.recorder")
Inbox = queue.SimpleQueue[tuple[str, dict[str, Any]]]
"""What recorders tell: (source id, message)."""
_REFUSED = 3
"""Exit code of a recorder whose folder another one writes."""
_HANG_S = 10.0
"""A recorder may be silent for its longest pause and wait for a packet, and this (our choice)."""
_EXIT_S = 5.0


class RecorderProcess:
    """Keeps one source's recorder running until it is stopped."""

    def __init__(
        self, source_id: str, source: SourceConfig, config: WatchConfig, inbox: Inbox
    ) -> None:
        self.source_id = source_id
        self._config, self._inbox = config, inbox
        self._request = request_of(source_id, source, config)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._signs, self._heard_s = -1, time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"marc-{source_id}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the present child, for monitoring."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Ask the recorder to close its segment and end; returns at once."""
        self._stopping.set()
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):
                process.stdin.write("stop\n")
                process.stdin.flush()

    def join(self, timeout_s: float) -> None:
        """Wait until the recorder has ended; kill it after `timeout_s`."""
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join(_EXIT_S)

    def watch(self) -> None:
        """Kill the recorder where it gives no sign of life; it is started again then."""
        config = self._config
        most_s = config.open_timeout_s + config.stall_s + 1.5 * config.retry_most_s + _HANG_S
        if time.monotonic() - self._heard_s > most_s and self._process is not None:
            self._heard_s = time.monotonic()
            self._process.kill()

    def _run(self) -> None:
        pause_s, chance = self._config.retry_first_s, random.SystemRandom()
        while not self._stopping.is_set():
            started = time.monotonic()
            code, last = self._once()
            if self._stopping.is_set():
                return
            if code != _REFUSED:  # which it has told itself; the other one may end
                why = f"the recorder ended with {code}: {last}" if last else f"it ended with {code}"
                self._inbox.put((self.source_id, {"what": "state", "state": "died", "reason": why}))
            if time.monotonic() - started > self._config.retry_most_s:
                pause_s = self._config.retry_first_s
            self._stopping.wait(pause_s * chance.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, self._config.retry_most_s)

    def _once(self) -> tuple[int, str]:
        """Run a child until it ends; return its exit code and the last line of its stderr."""
        process = self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=child_environment(), start_new_session=True,  # Ctrl-C is for the parent
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._heard_s = time.monotonic()
        lines: deque[str] = deque(maxlen=1)
        drain = threading.Thread(target=_drain, args=(process.stderr, lines), daemon=True)
        drain.start()
        with suppress(BrokenPipeError):
            process.stdin.write(self._request + "\n")
            process.stdin.flush()
        if self._stopping.is_set():
            self.stop()
        for line in process.stdout:
            self._hear(json.loads(line))
        code = process.wait()
        drain.join(_EXIT_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                pipe.close()
        return code, lines[0] if lines else ""

    def _hear(self, message: dict[str, Any]) -> None:
        if message["what"] == "alive":
            if message["signs"] != self._signs:
                self._signs, self._heard_s = message["signs"], time.monotonic()
            return
        self._inbox.put((self.source_id, message))


def _drain(stream: Any, lines: deque[str]) -> None:
    for line in stream:
        if line.strip():
            lines.append(line.strip())
