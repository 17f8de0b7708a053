"""Requests that are too much, too slow or too deep, and readers who take nothing more."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serving.config import MediaConfig, ServeConfig
from serving.errors import ApiError
from serving.media import Media
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.attacks.conftest import LIMITS
from tests.serving.conftest import make_app
from tests.serving.raw_requests import Answer, get, post, raw
from tests.serving.test_media import row_of
from tests.serving.test_student import SlowEngine


def test_a_body_that_says_it_is_too_long_is_not_read(app: FastAPI) -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError("it was read")

    started = time.monotonic()
    length = [(b"content-length", b"99999999999999999999")]
    found = asyncio.run(raw(app, "POST", "/v1/search", headers=length, body=never))
    assert found.code == (413, "too_large")
    assert time.monotonic() - started < 1


async def post_running(app: FastAPI, path: str, **more: Any) -> Answer:
    """Send a body while what runs beside the application (the tools) runs."""
    if path != "/mcp":
        return await raw(app, "POST", path, **more)
    async with app.router.lifespan_context(app):
        accepts = (b"accept", b"application/json, text/event-stream")
        return await raw(app, "POST", path, headers=[accepts], **more)


PATHS = ["/v1/search", "/v1/chat/completions", "/v1/videos", "/mcp"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("pause_s", [0.05, 3600])
def test_a_body_that_drips_or_stops_ends_the_request(
    app: FastAPI, path: str, pause_s: float
) -> None:
    began: list[float] = []

    async def drip() -> dict[str, Any]:
        began.append(time.monotonic())
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": b" ", "more_body": True}

    assert asyncio.run(post_running(app, path, body=drip)).code == (408, "stalled")
    assert began[-1] - began[0] < 2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 50_000, b'{"text":' + b"[" * 100_000])
def test_json_of_great_depth_is_an_ordinary_error(app: FastAPI, path: str, body: bytes) -> None:
    assert asyncio.run(post_running(app, path, body=body)).status in (400, 422)
    assert get(app, "/health").status == 200


def _png(side: int) -> bytes:
    """Return a picture of side x side black pixels, packed a thousand times."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    row = bytes(min(side, 20_000) // 8 + 1)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(min(side, 20_000))) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_a_picture_that_unpacks_to_gigabytes_is_refused(app: FastAPI, side: int) -> None:
    picture = base64.b64encode(_png(side)).decode()
    assert len(picture) < LIMITS.body_bytes
    started = time.monotonic()
    assert post(app, "/v1/search", {"image": picture}).code == (422, "unanswerable")
    assert time.monotonic() - started < 5


def test_packed_bodies_are_not_unpacked(app: FastAPI) -> None:
    packed = zlib.compress(b'{"text": "x"}' + b" " * 10**7, 9)
    for encoding in (b"gzip", b"deflate", b"br"):
        found = post(app, "/v1/search", packed, (b"content-encoding", encoding))
        assert found.code == (400, "invalid_json")


def _gif(side: int) -> bytes:
    """Return a picture that says it is side x side pixels, in 30 bytes."""
    size = struct.pack("<HH", side, side)
    palette = bytes(6)
    return b"GIF89a" + size + b"\x80\0\0" + palette + b",\0\0\0\0" + size + b"\0\x02\x02D\x01\0;"


@pytest.mark.parametrize("data", [_gif(65_535), bytes(1000), b"PK\x03\x04" + bytes(10**6)])
def test_videos_of_huge_pictures_and_archives_cost_a_child_only(
    data: bytes, tmp_path: Path, folder: Path
) -> None:
    path = tmp_path / "clip.gif"
    path.write_bytes(data)
    media = Media(MediaConfig(cache_folder=str(tmp_path / "cache"), convert_deadline_s=20), {})
    with pytest.raises(ApiError) as caught:
        asyncio.run(media.playable(row_of(path)))
    assert (caught.value.status, caught.value.code) == (415, "unsupported_type")
    assert list((tmp_path / "cache").iterdir()) == []


class SlowStudent(EngineStudent):
    """Says a thousand words."""

    def __init__(self) -> None:
        self.slow = SlowEngine(["word "] * 1000, 0.005)
        super().__init__(self.slow)  # type: ignore[arg-type]


async def _takes_one(after: Callable[[], None]) -> Any:
    async def taken(message: dict[str, Any]) -> None:
        if message.get("body"):
            after()
            await asyncio.sleep(3600)

    return taken


def test_a_reader_who_takes_nothing_more_loses_the_place(
    serve_config: ServeConfig, retriever: MemoryRetriever
) -> None:
    student = SlowStudent()
    app = make_app(replace(serve_config, limits=LIMITS), retriever, student)
    ask = {
        "model": "marc", "stream": True, "messages": [{"role": "user", "content": "What moves?"}]
    }  # fmt: skip
    during: list[int] = []

    async def run() -> None:
        taken = await _takes_one(lambda: during.append(student.slow.under_way))
        body = json.dumps(ask).encode()
        await asyncio.gather(
            *(raw(app, "POST", "/v1/chat/completions", body=body, taken=taken) for _ in range(20))
        )

    started = time.monotonic()
    asyncio.run(run())
    assert len(during) == 20
    assert max(during) > 1
    assert student.slow.under_way == 0
    assert time.monotonic() - started < 20


def test_a_player_that_takes_nothing_more_is_let_go(app: FastAPI, video_ids: list[str]) -> None:
    async def run() -> Answer:
        taken = await _takes_one(lambda: None)
        return await raw(app, "GET", f"/v1/videos/{video_ids[0]}/media", taken=taken)

    started = time.monotonic()
    assert asyncio.run(run()).status == 200
    assert time.monotonic() - started < 10
