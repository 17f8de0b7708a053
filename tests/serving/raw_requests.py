"""Requests as no client library would send them, handed over as a server does (ASGI)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI


@dataclass
class Answer:
    """What a raw request got. status: 0 where nothing was answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def code(self) -> tuple[int, str]:
        return self.status, json.loads(self.body)["error"]["code"]


async def raw(
    app: FastAPI,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: Callable[[], Awaitable[dict[str, Any]]] | bytes = b"",
    taken: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> Answer:
    """Send a request as it stands. body: what `receive` gives; taken: what the reader does."""
    target, _, query = path.encode().partition(b"?")
    plain = unquote_to_bytes(target).decode(errors="replace")
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
        "method": method, "scheme": "http", "path": plain, "raw_path": target, "state": {},
        "query_string": query, "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *headers],
    }  # fmt: skip
    answer, sent = Answer(0, [], b""), False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if callable(body):
            return await body()
        if sent:
            await asyncio.sleep(3600)
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        answer.body += message.get("body", b"")
        if taken is not None:
            await taken(message)

    await app(scope, receive, send)
    return answer


def get(app: FastAPI, path: str, token: str | None = None, method: str = "GET") -> Answer:
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    return asyncio.run(raw(app, method, path, headers=headers))


def post(app: FastAPI, path: str, body: Any, *headers: tuple[bytes, bytes]) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(raw(app, "POST", path, headers=headers, body=data))
