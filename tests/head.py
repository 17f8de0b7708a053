"""A real Ray head node with its job server, in processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
"""Fixed by default, so that two heads on one machine would collide."""


@contextmanager
def running_head(
    python: Path, *, cwd: Path | None = None, home: Path | None = None
) -> Iterator[str]:
    """Yield the address of the job server; jobs run the `python` beside the one given.

    home: where the cluster's token is kept; who submits needs the same.
    """
    temp = tempfile.mkdtemp(prefix="head")  # short: sockets lie below it
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    process = subprocess.Popen(
        [python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2",
         "--include-dashboard=true", "--disable-usage-stats", f"--temp-dir={temp}",
         *(f"--{name}={port}" for name, port in ports.items())],
        env=os.environ
        | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONPATH": "",
           "HOME": str(home or Path.home()), "PATH": f"{python.parent}:{os.environ['PATH']}"},
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        _wait_for(address, process)
        yield address
    finally:
        process.terminate()  # drains, then ends the node
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temp, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the dashboard answers; that it asks for a token is an answer, too."""
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"The head ended with code {process.returncode}.")
