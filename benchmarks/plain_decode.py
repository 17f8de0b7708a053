"""CPU seconds of decoding a file and nothing else, in a process of its own as decoders have.

    python -m benchmarks.plain_decode FILE

One thread, no scaling, no way to another process; starting Python is not counted. What indexing is
compared with (`python -m benchmarks.stage_costs`).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import av


def limit_cpu_s(path: Path) -> float:
    """Return the CPU seconds, from a new process."""
    command = [sys.executable, "-m", "benchmarks.plain_decode", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    started = time.process_time()
    with av.open(sys.argv[1]) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for _ in container.decode(stream):
            pass
    print(time.process_time() - started)


if __name__ == "__main__":
    main()
