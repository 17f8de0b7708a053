"""Every step of a student of Qwen2.5-VL-3B's shape on a machine without a GPU: seconds and memory.

    python -m benchmarks.true_shape [--directory DIR] [--only STEP ...] [--most-gb 13]

Random weights in bfloat16 are written into DIR where it holds none (7.5 GB). The steps of
`benchmarks.true_steps` then run one after the other, each in a process of its own, with the
project's own functions and commands. What a step leaves lies in DIR, its figures too: a rerun with
the same DIR does what is missing.

all_gb: highest proportional memory (PSS) of all processes of a step, pages of the weights' files
counted once; private_gb: what is theirs alone. cpu_s: of steps that are commands; others say it of
their phases. A step that takes more than --most-gb is stopped and says so.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.clips import hardware
from benchmarks.model_memory import TEXT, VISION, write_checkpoint
from benchmarks.processes import Sampled, TreeCpu, descendants, private_mib, pss_bytes
from benchmarks.true_steps import STEPS
from benchmarks.true_work import SHALLOW_LAYERS, Work

DONE = "figures.json"


class Watched(Sampled):
    """Highest memory of a process and all below it; ends it above a limit."""

    interval_s = 2.0  # a look at 7 GB of mapped weights takes 0.1 s, and steps take minutes

    def __init__(self, process: subprocess.Popen[bytes], most_gb: float) -> None:
        self.process, self.most_gb = process, most_gb
        self.all_gb = self.private_gb = 0.0
        self.stopped = False

    def look(self) -> None:
        """Take one sample."""
        pids = list(descendants(self.process.pid))
        self.all_gb = max(self.all_gb, sum(map(pss_bytes, pids)) / 1e9)
        self.private_gb = max(self.private_gb, sum(map(private_mib, pids)) * 1024**2 / 1e9)
        if self.all_gb > self.most_gb and not self.stopped:
            self.stopped = True
            self.process.send_signal(signal.SIGINT)


def measured(step: str, directory: Path, most_gb: float) -> dict[str, Any]:
    """Run one step in a process of its own; return its figures beside what it says itself."""
    command = [sys.executable, "-m", "benchmarks.true_steps", step, str(directory)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    with TreeCpu() as cpu, Watched(process, most_gb) as watched:
        said, _ = process.communicate()
    figures = {
        "wall_s": round(time.monotonic() - started, 1),
        "all_gb": round(watched.all_gb, 2),
        "private_gb": round(watched.private_gb, 2),
    }
    if watched.stopped:
        return figures | {"stopped": f"took more than {most_gb:g} GB"}
    if process.returncode:
        raise SystemExit(f"step {step} ended with {process.returncode}")
    found = dict(json.loads(said.splitlines()[-1]))
    if "phases" not in found:
        figures["cpu_s"] = round(cpu.seconds - watched.looking_s, 1)
    return figures | found


def run(directory: Path, only: list[str], most_gb: float) -> dict[str, Any]:
    """Do the steps that have no figures yet, and those that are asked for."""
    work = Work(directory)
    for place, layers in (
        (work.student, TEXT["num_hidden_layers"]),
        (work.shallow, SHALLOW_LAYERS),
    ):
        if not (place / "model.safetensors.index.json").is_file():
            write_checkpoint(place, layers=layers)
    kept = directory / DONE
    done = json.loads(kept.read_text()) if kept.is_file() else {}
    for step in STEPS:
        if step in only or (not only and step not in done):
            sys.stderr.write(f"{step}\n")
            done[step] = measured(step, directory, most_gb)
            kept.write_text(json.dumps(done, indent=2))
    return {step: done[step] for step in STEPS if step in done}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, help="keep all of it here for other runs")
    parser.add_argument("--only", nargs="*", default=[], choices=list(STEPS), help="do these again")
    parser.add_argument("--most-gb", type=float, default=13.0, help="stop a step above this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        steps = run(options.directory or Path(scratch), options.only, options.most_gb)
    result = {
        "hardware": hardware(),
        "shape": {"layers": TEXT["num_hidden_layers"], "vision_blocks": VISION["depth"]},
        "steps": steps,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
