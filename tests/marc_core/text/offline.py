"""Runs the speech stage where no connection can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

WITHOUT_NETWORK = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked for")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
from marc_core.config import MethodConfig, TextConfig
from marc_core.text.speech import make_stage
from marc_core.text.stage import Span
stage = make_stage(MethodConfig(text=TextConfig(speech_model=sys.argv[2])))
lines = stage.texts(sys.argv[1], [Span(event_id="e", start_s=0.0, end_s=12.0)]).lines
stage.close()
print(len(lines))
"""


def without_network(video: Path, model: str) -> str:
    """Return how many lines are heard: sockets are patched, and where the system lets us, the
    process and its children have no network at all."""
    command = [sys.executable, "-c", WITHOUT_NETWORK, str(video), model]
    isolated = ["unshare", "--user", "--net"]
    try:
        possible = subprocess.run([*isolated, "true"], capture_output=True, check=False)
        command = [*isolated, *command] if possible.returncode == 0 else command
    except FileNotFoundError:
        pass
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
