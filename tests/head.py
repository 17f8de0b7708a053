"""A real Ray head node with its job server, in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
import ray, sys
context = ray.init(num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False)
print(context.dashboard_url, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@contextmanager
def running_head(
    python: Path, *, cwd: Path | None = None, home: Path | None = None
) -> Iterator[str]:
    """Yield the address of the job server; jobs run the `python` beside the one given.

    home: where the cluster's token is kept; who submits needs the same.
    """
    process = subprocess.Popen(
        [python, "-c", PROGRAM],
        env=os.environ
        | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONPATH": "",
           "HOME": str(home or Path.home()), "PATH": f"{python.parent}:{os.environ['PATH']}"},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield "http://" + process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
