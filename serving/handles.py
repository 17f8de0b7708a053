"""The Protocols of `serving.ports` over Ray Serve's handles, across processes.

A call whose replica died is sent again, up to `RETRIES` times, as long as nothing of its answer has
been passed on. A full queue is a 503 at once. Leaving a call early cancels it in its replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)

from marc_core.question import EventFilter, Question, Sampling, SearchQuery
from serving.context import Context, current
from serving.errors import overloaded, unavailable
from serving.metrics import Metrics
from serving.ports import Piece, Prepared, Row, VideoQuery
from serving.tracing import span

RETRIES = 3
"""Our choice: a replica that dies again and again is not the request's fault to pay for."""
PAUSE_S = 0.1
"""Before a call is sent again; doubled each time."""
_LOST = (RayActorError, ReplicaUnavailableError)


class _Part:
    """A deployment behind its handle."""

    def __init__(self, name: str, handle: Any, metrics: Metrics, retry_after_s: int) -> None:
        self.name, self.handle, self.metrics = name, handle, metrics
        self._retry_after_s = retry_after_s

    async def call(self, method: str, *args: Any) -> Any:
        """Return what the method returns."""
        with span(f"call {self.name}.{method}", current(), "CLIENT"):
            return await self._retried(lambda: self._once(method, *args))

    async def healthy(self) -> Any:
        """Return what the part says of itself, when it can work."""
        return await self._retried(self._health)

    async def _health(self) -> Any:
        return await self.handle.health.remote()

    async def _once(self, method: str, *args: Any) -> Any:
        return await getattr(self.handle, method).remote(*args, context=current())

    async def _retried(self, work: Callable[[], Any]) -> Any:
        for attempt in range(RETRIES + 1):
            try:
                return await work()
            except _LOST:
                if attempt == RETRIES:
                    break
                self.metrics.retried(self.name)
                await asyncio.sleep(PAUSE_S * 2**attempt)
            except BackPressureError:
                self.metrics.rejected("overloaded")
                raise overloaded(self._retry_after_s) from None
            except DeploymentUnavailableError:
                break
        self.metrics.rejected("unavailable")
        raise unavailable(self.name)


class RetrieverHandle(_Part):
    """A Retriever in other processes."""

    async def prepare(self, question: Question) -> Prepared:
        """See Retriever."""
        found: Prepared = await self.call("prepare", question)
        return found

    async def search(self, query: SearchQuery, bound: EventFilter) -> list[Row]:
        """See Retriever."""
        rows: list[Row] = await self.call("search", query, bound)
        return rows

    async def events(self, filter: EventFilter, limit: int, offset: int) -> list[Row]:
        """See Retriever."""
        rows: list[Row] = await self.call("events", filter, limit, offset)
        return rows

    async def event(self, event_id: str, bound: EventFilter) -> Row | None:
        """See Retriever."""
        row: Row | None = await self.call("event", event_id, bound)
        return row

    async def thumbnail(self, event_id: str, bound: EventFilter) -> bytes | None:
        """See Retriever."""
        data: bytes | None = await self.call("thumbnail", event_id, bound)
        return data

    async def videos(self, query: VideoQuery) -> tuple[list[Row], int]:
        """See Retriever."""
        found: tuple[list[Row], int] = await self.call("videos", query)
        return found

    async def video(self, video_id: str, bound: EventFilter) -> Row | None:
        """See Retriever."""
        row: Row | None = await self.call("video", video_id, bound)
        return row

    async def source(self, video_id: str, bound: EventFilter) -> Row | None:
        """See Retriever."""
        row: Row | None = await self.call("source", video_id, bound)
        return row

    async def facets(self, bound: EventFilter) -> Row:
        """See Retriever."""
        found: Row = await self.call("facets", bound)
        return found

    async def delete(self, video_id: str) -> dict[str, int]:
        """See Retriever."""
        counts: dict[str, int] = await self.call("delete", video_id)
        return counts

    async def health(self) -> None:
        """See Retriever."""
        await self.healthy()


class StudentHandle(_Part):
    """A Student in other processes."""

    async def complete(self, evidence: bytes, sampling: Sampling) -> list[Piece]:
        """See Student."""
        pieces: list[Piece] = await self.call("complete", evidence, sampling)
        return pieces

    async def stream(self, evidence: bytes, sampling: Sampling) -> AsyncIterator[Sequence[Piece]]:
        """See Student. A replica that dies after the first chunk ends the stream with a 503."""
        with span(f"call {self.name}.stream", current(), "CLIENT"):
            stream: Any = self._stream(evidence, sampling, current())
            async with aclosing(stream):
                async for pieces in stream:
                    yield pieces

    async def _stream(
        self, evidence: bytes, sampling: Sampling, context: Context
    ) -> AsyncIterator[Sequence[Piece]]:
        calls: list[Any] = []

        async def first() -> Sequence[Piece]:
            handle = self.handle.options(stream=True)
            calls.append(handle.stream.remote(evidence, sampling, context=context))
            pieces: Sequence[Piece] = await anext(calls[-1])
            return pieces

        try:
            yield await self._retried(first)
            async for pieces in calls[-1]:
                yield pieces
        except _LOST:
            self.metrics.rejected("stream_lost")
            raise unavailable(self.name) from None
        finally:
            for call in calls:
                call.cancel()

    async def health(self) -> Row | None:
        """See Student."""
        found: Row | None = await self.healthy()
        return found
