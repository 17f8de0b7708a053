"""Finding the processes that a test wants to kill."""

from __future__ import annotations

from pathlib import Path


def descendants_named(ancestor: int, name: str) -> list[int]:
    """Return the pids below `ancestor` whose command line contains `name`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if name in command and _is_below(int(entry.name), ancestor):
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pid = int(stat[1])
    return False
