"""How long it takes to list an archive, and how much memory.

python -m benchmarks.listing [FILES]     makes FILES (100,000) empty files in a temporary folder
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from marc_core.config import IndexConfig
from marc_core.video import list_videos

_PER_FOLDER = 1000


def make(root: Path, count: int) -> None:
    """Make `count` empty files, every tenth of them no video, a thousand in a folder."""
    for first in range(0, count, _PER_FOLDER):
        folder = root / f"{first // _PER_FOLDER:04d}"
        folder.mkdir()
        for i in range(first, min(first + _PER_FOLDER, count)):
            os.close(os.open(folder / f"{i:07d}.{'txt' if i % 10 == 0 else 'mp4'}", os.O_CREAT))


def main() -> None:
    """List, three times, and print seconds and memory."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as root:
        make(Path(root), count)
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_SELF)
            started, cpu_s = time.perf_counter(), time.process_time()
            found = sum(1 for _ in list_videos([root], IndexConfig().patterns, {}))
            wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss
            print(
                f"{found} of {count} files: {wall_s:.2f} s, {cpu_s:.2f} s of CPU, {grown} KiB more"
            )


if __name__ == "__main__":
    main()
