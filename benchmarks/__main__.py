"""Run every benchmark and write its JSON to benchmarks/results/: `python -m benchmarks`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"__init__", "__main__", "clips", "curves", "joined", "odd_files", "processes"}
# int8_ranges measures constants, from real clips
HELPERS |= {"rl_cells", "world_memory", "int8_ranges", "odd_media", "sound_media"}
HELPERS |= {"questions", "serve_empty", "serve_users", "timed_engine", "true_steps", "true_work"}


def main() -> None:
    modules = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in HELPERS)
    failed = []
    for name in modules:
        sys.stderr.write(f"benchmarks.{name}\n")
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        result = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, check=False)
        if result.returncode:
            failed.append(name)
        else:
            (HERE / "results" / f"{name}.json").write_bytes(result.stdout)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
