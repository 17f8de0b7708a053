"""A question that the student has no place for is refused before the retriever works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import httpx2

from marc_core.question import Question, Sampling
from serving.config import LimitConfig, ReplicaConfig, ServeConfig
from serving.gateway import Gateway, build_app
from serving.ports import Piece, Prepared
from tests.serving.conftest import BASE

LAST = Piece(index=0, text="left", finish_reason="stop", num_tokens=1, prompt_tokens=5)


class Counting:
    """A retriever that counts; finds nothing."""

    prepared = 0

    async def prepare(self, question: Question) -> Prepared:
        self.prepared += 1
        return Prepared(
            evidence=b"", citations=[], source_tokens=9, visual_tokens=9, retrieval="retrieved",
            timings_s={},
        )  # fmt: skip


class Held:
    """A student that answers when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()

    async def complete(self, evidence: bytes, sampling: Sampling) -> list[Piece]:
        await self.may.wait()
        return [LAST]

    async def stream(self, evidence: bytes, sampling: Sampling) -> AsyncIterator[Sequence[Piece]]:
        await self.may.wait()
        yield [LAST]


def test_no_place_no_retrieval() -> None:
    asyncio.run(fill())


async def unread() -> AsyncGenerator[bytes, None]:
    yield b"{"


async def fill() -> None:
    retriever, student = Counting(), Held()
    config = ServeConfig(
        student=ReplicaConfig(max_ongoing=2, max_queued=1), limits=LimitConfig(retry_after_s=7)
    )
    parts: Any = {"retriever": retriever, "student": student}
    app = build_app(Gateway(config=config, **parts))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as http:

        async def ask(stream: bool = False) -> httpx2.Response:
            messages = [{"role": "user", "content": "Which way?"}]
            body = {"model": "marc", "messages": messages, "stream": stream}
            return await http.post("/v1/chat/completions", json=body)

        async def until_prepared(count: int) -> None:
            async with asyncio.timeout(20):
                while retriever.prepared < count:
                    await asyncio.sleep(0.01)

        asking = [asyncio.create_task(ask(stream=i == 1)) for i in range(3)]
        await until_prepared(3)
        body = unread()
        refused = await http.post("/v1/chat/completions", content=body)
        assert await anext(body) == b"{"  # nobody asked for it
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        assert refused.json()["error"]["code"] == "overloaded"
        assert (await ask(stream=True)).status_code == 503
        assert retriever.prepared == 3
        asking.pop().cancel()  # who leaves gives the place back
        await asyncio.sleep(0)
        asking.append(asyncio.create_task(ask()))
        await until_prepared(4)
        metrics = (await http.get("/metrics")).text
        assert 'marc_rejected_total{reason="overloaded"} 2.0' in metrics
        assert (
            'marc_requests_total{method="POST",route="/v1/chat/completions",status="503"} 2.0'
            in metrics
        )
        student.may.set()
        assert [r.status_code for r in await asyncio.gather(*asking)] == [200] * 3
        assert [(await ask(stream=i == 1)).status_code for i in range(4)] == [200] * 4
