"""A locustfile: users who ask a server questions, one after the other. `benchmarks.serve_load` runs
it.

    MARC_LOAD='{"stream": true, "out": "rows.json", "per_s": null, "heed": true}' \\
        locust -f benchmarks/serve_users.py --headless -u 8 -t 20s --host http://127.0.0.1:8000

per_s: requests a second of all users together; null: each asks again at once. heed: whether a user
who is told to come again later does. Rows: when it was asked (monotonic seconds), seconds to the
first token and to the end, status, Retry-After, chunks; -1: it broke.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, constant_throughput, events, task

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.questions import question

SAYS = {"stream": False, "out": "", "per_s": None, "heed": True, "users": 1}
SAYS |= json.loads(os.environ.get("MARC_LOAD", "{}"))
ROWS: list[tuple[float, float, float, int, int, int]] = []


class Asker(FastHttpUser):
    """Asks, and asks again."""

    wait_time = (
        constant(0) if SAYS["per_s"] is None else constant_throughput(SAYS["per_s"] / SAYS["users"])
    )
    network_timeout = connection_timeout = 180.0
    number = 0

    @task
    def ask(self) -> None:
        """Ask one question and read all of the answer."""
        self.number += 1
        body = {
            "model": "marc", "stream": SAYS["stream"],
            "messages": [{"role": "user", "content": question(self.number)}],
        }  # fmt: skip
        asked, first, chunks, status, later = time.monotonic(), 0.0, 0, -1, 0
        with self.client.post(
            "/v1/chat/completions", json=body, stream=SAYS["stream"],
            catch_response=True, name="ask",
        ) as response:  # fmt: skip
            status = response.status_code or -1
            if status == 200 and SAYS["stream"]:
                status = -1
                while line := response.stream.readline(b"\n"):
                    if line.startswith(b"data: {"):
                        first = first or time.monotonic() - asked
                        chunks += 1
                    if line.startswith(b"data: [DONE]"):
                        status = 200
            later = int((response.headers or {}).get("retry-after", 0))
            response.success()
        ROWS.append((asked, first, time.monotonic() - asked, status, later, chunks))
        if status == -1 or (later and SAYS["heed"]):
            gevent.sleep(later or 1)


@events.quitting.add_listener
def _write(**_: Any) -> None:
    if SAYS["out"]:
        with open(SAYS["out"], "w") as file:
            json.dump(ROWS, file)
