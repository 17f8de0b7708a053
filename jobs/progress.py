"""How far a long command is: a bar on a terminal, and for many videos lines in a job's log."""

from __future__ import annotations

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


class progress_bar:
    """A bar on a terminal, a line now and then elsewhere (job logs)."""

    def __init__(self, doing: str = "indexing", done: str = "indexed") -> None:
        self.done = done
        self.bar = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task, self.logged = self.bar.add_task("", total=None, failed=0), time.monotonic()
        self.done_and_total = (0, 0)

    def __enter__(self):
        self.bar.start()
        return self.update

    def __exit__(self, *_):
        self.bar.stop()

    def how_far(self) -> str:
        """Return what to say when the user stops the command."""
        done, total = self.done_and_total
        if not total:
            return "No video was done yet; what was there stays. The same command begins again."
        counts = f"{done:,} of {counted(total, 'video')} were done"
        return f"{counts} and stay. The same command goes on with the rest."

    def update(self, done: int, failed: int, total: int) -> None:
        self.done_and_total = (done, total)
        self.bar.update(self.task, completed=done, total=total, failed=failed)
        if not console.is_terminal and time.monotonic() - self.logged > LOG_INTERVAL_S:
            console.print(f"{self.done} {done:,} of {counted(total, 'video')}, {failed:,} failed")
            self.logged = time.monotonic()


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
