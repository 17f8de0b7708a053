"""How far a long command is: a bar on a terminal, and for many videos lines in a job's log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from jobs.terminal import console, counted

LOG_INTERVAL_S = 15.0
REPEAT_S = 60.0
"""Where there is no terminal, how far a command is is said so often, though nothing changed: who
reads the log sees that it is alive (our choice)."""


class progress_bar:
    """A bar on a terminal, a line now and then elsewhere (job logs)."""

    def __init__(self, doing: str = "indexing", done: str = "indexed") -> None:
        self.bar = Progress(
            TextColumn("{task.fields[doing]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None, failed=0, doing=doing)
        self.started = self.logged = time.monotonic()
        self.done, self.done_and_total = done, (0, 0)
        self._line, self._ended = f"{doing}: nothing is done yet", threading.Event()

    def __enter__(self):
        self.bar.start()
        if not console.is_terminal:
            threading.Thread(target=self._repeat, daemon=True).start()
        return self.update

    def __exit__(self, *_):
        self._ended.set()
        self.bar.stop()

    def how_far(self) -> str:
        """Return what to say when the user stops the command."""
        done, total = self.done_and_total
        if not total:
            return "No video was done yet; what was there stays. The same command begins again."
        counts = f"{done:,} of {counted(total, 'video')} were done"
        return f"{counts} and stay. The same command goes on with the rest."

    def update(self, done: int, failed: int, total: int) -> None:
        """Show how far the command is."""
        self.done_and_total = (done, total)
        self.bar.update(self.task, completed=done, total=total, failed=failed)
        self._log(f"{self.done} {done:,} of {counted(total, 'video')}, {failed:,} failed")

    def update_texts(self, done: int, failed: int, total: int) -> None:
        """Show how far the pass is that makes the texts of what is indexed."""
        if not total:
            return
        self.bar.update(self.task, completed=done, total=total, failed=failed, doing="texts")
        self._log(f"texts: {done:,} of {counted(total, 'video')}, {failed:,} failed")

    def _log(self, line: str) -> None:
        self._line = line
        if not console.is_terminal and time.monotonic() - self.logged > LOG_INTERVAL_S:
            self._print()

    def _print(self) -> None:
        self.logged = time.monotonic()
        console.print(f"{self._line} ({self.logged - self.started:.0f} s)", highlight=False)

    def _repeat(self) -> None:
        while not self._ended.wait(REPEAT_S / 20):
            if time.monotonic() - self.logged > REPEAT_S:
                self._print()


@contextmanager
def counting_bar(doing: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal for each named thing that is counted; nothing elsewhere.

    Yields what is called with the name, how much is done and how much there is.
    """
    bar = Progress(
        TextColumn(doing), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}

    def progress(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total)
        bar.update(tasks[name], completed=done, total=total)

    with bar:
        yield progress
