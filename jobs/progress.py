"""How far a command over many videos is: a bar on a terminal, lines in a job's log."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
