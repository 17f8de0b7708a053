"""For scripts and tests: an asynchronous engine asked synchronously."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from marc_core.models.engine import Completion, GenerationRequest, StudentEngine


def answer_all(engine: StudentEngine, requests: Sequence[GenerationRequest]) -> list[Completion]:
    """Return all completions, request by request, each one's samples in order.

    Also callable where an event loop is running already (a notebook); it blocks. Raises what
    `StudentEngine.generate` raises.
    """
    found: dict[tuple[str, int], Completion] = {}
    failures: list[BaseException] = []

    async def collect() -> None:
        async for item in engine.generate(requests):
            if isinstance(item, Completion):
                found[item.request_id, item.index] = item

    def run() -> None:
        try:
            asyncio.run(collect())
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="marc-answer-all")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    order = {request.id: i for i, request in enumerate(requests)}
    return sorted(found.values(), key=lambda c: (order[c.request_id], c.index))
