"""Clients that ask all the time while something happens to the server, and count how each request
ended: nothing that was accepted may be lost without an error that a client can retry."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any, Self

import httpx2

ASK: Any = {"model": "marc", "messages": [{"role": "user", "content": "What colour is it?"}]}
KINDS = ("whole", "stream", "left")
AGAIN = {408, 409, 429, 500, 502, 503, 504}
"""Statuses that OpenAI's clients retry."""


class Askers:
    """Threads that ask one question after the other: whole answers, streams, and streams that they
    leave. ends: "whole ok", "stream again:503", "left ok", "whole lost:...". Nothing of the last
    kind may be there."""

    def __init__(self, address: str, threads: int, *, answer: str | None = None) -> None:
        self.address, self.answer = address, answer
        self.ends: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(KINDS[i % 3],), daemon=True)
            for i in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a request never ended"

    @property
    def lost(self) -> list[str]:
        """What ended as nothing may."""
        return [end for end in self.ends if " lost:" in end]

    def wait(self, ok: int, timeout_s: float = 120.0) -> None:
        """Wait until so many more requests have been answered."""
        done = self._ok + ok
        ends = time.monotonic() + timeout_s
        while self._ok < done:
            assert time.monotonic() < ends, dict(self.ends)
            time.sleep(0.1)

    @property
    def _ok(self) -> int:
        return sum(count for end, count in self.ends.items() if end.endswith(" ok"))

    def _run(self, kind: str) -> None:
        with httpx2.Client(base_url=self.address, timeout=100) as http:
            while not self._stop.is_set():
                started = time.monotonic()
                try:
                    end = self._ask(http, kind)
                except (httpx2.TransportError, httpx2.RemoteProtocolError) as error:
                    timed_out = isinstance(error, httpx2.TimeoutException)
                    end = f"{'lost' if timed_out else 'again'}:{type(error).__name__}"
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.ends[f"{kind} {end}"] += 1
                if end != "ok":
                    self._stop.wait(0.3)

    def _ask(self, http: httpx2.Client, kind: str) -> str:
        path = "/v1/chat/completions"
        if kind == "whole":
            response = http.post(path, json=ASK)
            if response.status_code != 200:
                return _refused(response.status_code)
            return self._read(response.json()["choices"][0]["message"]["content"])
        with http.stream("POST", path, json=ASK | {"stream": True}) as response:
            if response.status_code != 200:
                return _refused(response.status_code)
            lines: list[str] = []
            for line in response.iter_lines():
                lines.append(line)
                if kind == "left" and line:
                    return "ok"
        return self._read_stream([line for line in lines if line])

    def _read_stream(self, lines: list[str]) -> str:
        import json

        if lines and lines[-1] == "data: [DONE]":
            chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
            deltas = [c["choices"][0]["delta"] for c in chunks if c.get("choices")]
            return self._read("".join(delta.get("content") or "" for delta in deltas))
        if lines and '"error"' in lines[-1]:
            error = json.loads(lines[-1].removeprefix("data: "))["error"]
            good = error["code"] in ("unavailable", "overloaded", "deadline_exceeded")
            return f"{'again' if good else 'lost'}:{error['code']}"
        return "lost:cut short without an error"

    def _read(self, text: str) -> str:
        whole = bool(text) if self.answer is None else text == self.answer
        return "ok" if whole else f"lost:answered {text[:40]!r}"


def _refused(status: int) -> str:
    return f"{'again' if status in AGAIN else 'lost'}:{status}"
