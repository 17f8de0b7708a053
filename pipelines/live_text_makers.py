"""What makes the texts of live videos one by one: a child process here, or Ray actors.

    rows of TEXT_WORK --> TextsStage (`pipelines.texts`), its models loaded once --> INDEXED rows

Of low priority in either case: what makes events searchable goes first. In a process of its own,
because speech recognition and OCR are native code that may crash, and take gigabytes in bad cases.

    child: `python -m pipelines.live_text_makers`
    stdin:  the configuration, then rows       stdout: an INDEXED row for each       (all pickled)
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from typing import Any, Protocol

import pyarrow as pa

from marc_core.config import IndexConfig
from marc_core.video.process import child_environment
from pipelines.texts import TEXT_WORK, TextsStage
from pipelines.writing import WRITER_ENV

COMMAND = (sys.executable, "-P", "-m", "pipelines.live_text_makers")
NICENESS = 10
"""Of those who make texts (our choice): where a core has both to do, events get nine tenths."""
CACHE_BYTES = 8 << 20
"""Of each of LanceDB's caches in a process that lives for months (our choice): commits leave them
full, whatever the limit, so the limit is what `marc watch` grows by (docs/footage.md)."""
_STALL_S = 600.0
"""A video's texts may take so long, and twenty times as long as the video (our choice): what takes
longer hangs. An overloaded core hears a second in 3 s."""
_STALL_RATIO = 20.0
Made = tuple[dict[str, Any], dict[str, Any] | None]
"""A row of TEXT_WORK, and its INDEXED row; None where its maker died."""


class TextMakers(Protocol):
    """Take rows of TEXT_WORK, give INDEXED rows that hold texts alone."""

    @property
    def running(self) -> int:
        """Rows that are begun and not taken back."""
        ...

    @property
    def is_free(self) -> bool:
        """Whether another row may be given."""
        ...

    def start(self, row: dict[str, Any]) -> None:
        """Begin a row."""
        ...

    def done(self) -> list[Made]:
        """Return what is done by now."""
        ...

    def close(self) -> None:
        """End the makers."""
        ...


class LiveTexts:
    """Makes texts of one video after the other, with low priority."""

    def __init__(self, config: IndexConfig) -> None:
        os.nice(NICENESS)
        self._stage = TextsStage(config, cache_bytes=CACHE_BYTES)

    def make(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the INDEXED row of a row of TEXT_WORK; a failure is a row, too."""
        self._stage.store.refresh()  # the video was indexed a moment ago
        work = {name: row[name] for name in TEXT_WORK.names}
        made: dict[str, Any] = self._stage.one(
            pa.Table.from_pylist([work], schema=TEXT_WORK)
        ).to_pylist()[0]
        return made


class LocalTextMaker:
    """A child of this process, which the first video starts."""

    def __init__(self, config: IndexConfig) -> None:
        self._config = config
        self._jobs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Made] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._until_s = float("inf")
        self._running = 0
        self._thread = threading.Thread(target=self._run, name="marc-texts", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Rows that are begun and not taken back."""
        return self._running

    @property
    def pid(self) -> int | None:
        """Process id of the present child, for monitoring."""
        return None if self._process is None else self._process.pid

    @property
    def is_free(self) -> bool:
        """Whether another row may be given."""
        return self._running == 0

    def start(self, row: dict[str, Any]) -> None:
        """Begin a row."""
        self._running += 1
        allowed_s = _STALL_S + _STALL_RATIO * (row["duration_s"] or 0.0)
        self._until_s = time.monotonic() + allowed_s
        self._jobs.put(row)

    def done(self) -> list[Made]:
        """Return what is done by now; end a child that hangs."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._done.get_nowait())
        self._running -= len(found)
        if self._running and time.monotonic() > self._until_s:
            self._kill()
        return found

    def close(self) -> None:
        """End the child; what it has in hand is lost."""
        self._jobs.put(None)
        self._kill()
        self._thread.join(5.0)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        while (row := self._jobs.get()) is not None:
            try:
                self._done.put((row, self._ask(row)))
            except (OSError, EOFError, pickle.UnpicklingError):  # it died
                self._end()
                self._done.put((row, None))
        self._end()

    def _ask(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=child_environment() | WRITER_ENV,
                start_new_session=True,  # Ctrl-C is for the parent
            )  # fmt: skip
            self._send(self._config)
        self._send(row)
        assert self._process.stdout is not None
        made: dict[str, Any] = pickle.load(self._process.stdout)  # noqa: S301 - our own child's
        return made

    def _send(self, value: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(value, self._process.stdin)
        self._process.stdin.flush()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


class RayTextMakers:
    """Actors of a Ray cluster, as many as index at most. They reserve nothing: they take what
    indexing leaves."""

    def __init__(self, config: IndexConfig, most: int) -> None:
        self._config, self._most = config, most
        self._load: dict[Any, int] = {}
        self._running: dict[Any, tuple[Any, dict[str, Any]]] = {}

    @property
    def running(self) -> int:
        """Rows that are begun and not taken back."""
        return len(self._running)

    @property
    def is_free(self) -> bool:
        """Whether another row may be given."""
        return self.running < self._most

    def start(self, row: dict[str, Any]) -> None:
        """Begin a row on an actor that has nothing to do; on a new one where there is none."""
        import ray

        actor = next((actor for actor, load in self._load.items() if not load), None)
        if actor is None:
            options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": "SPREAD"}
            actor = ray.remote(LiveTexts).options(**options).remote(self._config)
        self._load[actor] = 1
        self._running[actor.make.remote(row)] = (actor, row)

    def done(self) -> list[Made]:
        """Return what is done by now."""
        import ray

        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=self.running, timeout=0)
        found: list[Made] = []
        for reference in ready:
            actor, row = self._running.pop(reference)
            self._load[actor] = 0
            try:
                found.append((row, ray.get(reference)))
            except ray.exceptions.RayActorError:
                found.append((row, None))
        return found

    def close(self) -> None:
        """End the actors."""
        import ray

        for actor in self._load:
            ray.kill(actor)


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    rows = sys.stdin.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        texts = LiveTexts(pickle.load(rows))  # noqa: S301 - our own parent's
        while True:
            pickle.dump(texts.make(pickle.load(rows)), answers)  # noqa: S301
            answers.flush()


if __name__ == "__main__":
    main()
