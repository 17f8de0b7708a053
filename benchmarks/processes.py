"""What the processes below this one cost: CPU seconds and proportional memory, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

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


def tree_cpu_s() -> float:
    """Return the CPU seconds of this process and everything alive below it."""
    return sum(cpu_s(pid) for pid in descendants())


def pss_bytes(pid: int) -> int:
    """Return the proportional set size (shared pages counted once over all), 0 when gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
