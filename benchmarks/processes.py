"""What the processes below this one cost: CPU seconds and proportional memory, from /proc."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


def descendants(root: int | None = None) -> dict[int, str]:
    """Return the command lines of `root` (default: this process) and all below it, by pid."""
    root = root or os.getpid()
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, UnicodeDecodeError):
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            lines[int(entry.name)] = line
    found = {}
    for pid, line in lines.items():
        ancestor = pid
        while ancestor > 1 and ancestor != root:
            ancestor = parents.get(ancestor, 0)
        if ancestor == root:
            found[pid] = line
    return found


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a process and of its ended children; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(x) for x in fields[11:15]) / _TICKS


class Sampled:
    """Calls `look` every `interval_s` while a `with` block runs, from a thread of its own.

    looking_s: CPU seconds that this has taken so far.
    """

    interval_s = 0.5
    looking_s = 0.0

    def look(self) -> None:
        """Take one sample."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self.interval_s):
            self.look()
            self.looking_s = time.thread_time()


class TreeCpu(Sampled):
    """CPU seconds that this process and all below it spend inside a `with` block, but for looking.

    Sampled twice a second, because workers that end take their count along.
    """

    def __enter__(self) -> Self:
        self._first = {pid: cpu_s(pid) for pid in descendants()}
        self._last = dict(self._first)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.seconds = self.so_far_s()

    def so_far_s(self) -> float:
        """Return the seconds spent until now."""
        self.look()
        return sum(self._last.values()) - sum(self._first.values()) - self.looking_s

    def look(self) -> None:
        """Note what every process has spent so far."""
        for pid in descendants():
            self._last[pid] = max(cpu_s(pid), self._last.get(pid, 0.0))


def pss_bytes(pid: int) -> int:
    """Return the proportional set size (shared pages counted once over all), 0 when gone."""
    return _kib_field(f"/proc/{pid}/smaps_rollup", "Pss:") * 1024


def private_mib(pid: int | str) -> float:
    """Return the private memory of a process (RssAnon) in MiB, 0 when it is gone."""
    return _kib_field(f"/proc/{pid}/status", "RssAnon:") / 1024


def resident_mib(pid: int | str) -> float:
    """Return the resident memory of a process (VmRSS), pages of files included, in MiB."""
    return _kib_field(f"/proc/{pid}/status", "VmRSS:") / 1024


def _kib_field(path: str, name: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
