"""The student's part: one engine, which batches what is under way. It opens no memory.

    evidence (bytes) --Evidence.from_bytes--> StudentEngine --deltas--> pieces, gathered

Tokens of a stream are gathered: the first goes out at once, later ones at most every `GATHER_S`, so
that a chunk's cost in CPU does not decide how many streams a machine carries.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from marc_core.evidence import Evidence
from marc_core.models.engine import Completion, GenerationRequest
from serving.ports import Piece

if TYPE_CHECKING:
    from marc_core.models.engine import Delta, StudentEngine
    from marc_core.question import Sampling

GATHER_S = 0.05
"""Least time between two chunks of a stream (our choice: 20 a second read as continuous)."""


class EngineStudent:
    """A Student over one engine, in this process."""

    def __init__(self, engine: StudentEngine) -> None:
        self.engine = engine

    async def complete(self, evidence: bytes, sampling: Sampling) -> list[Piece]:
        """Return every sample's whole text; see Student."""
        request = _request(evidence, sampling)
        found = [i async for i in self.engine.generate([request]) if isinstance(i, Completion)]
        return [_last(item, item.text) for item in sorted(found, key=lambda c: c.index)]

    async def stream(self, evidence: bytes, sampling: Sampling) -> AsyncIterator[Sequence[Piece]]:
        """Yield what the samples gain; see Student."""
        request, sent_at = _request(evidence, sampling), 0.0
        texts: dict[int, str] = {}
        done: list[Piece] = []
        left, items = sampling.n, aiter(self.engine.generate([request]))
        upcoming: asyncio.Task[Delta | Completion] | None = None
        try:
            while left:
                upcoming = upcoming or asyncio.ensure_future(anext(items))
                waits = texts or done
                wait_s = max(0.0, sent_at + GATHER_S - time.monotonic()) if waits else None
                await asyncio.wait({upcoming}, timeout=wait_s)
                if upcoming.done():
                    item = upcoming.result()
                    upcoming = None
                    if isinstance(item, Completion):
                        left -= 1
                        done.append(_last(item, texts.pop(item.index, "")))
                    elif item.text:
                        texts[item.index] = texts.get(item.index, "") + item.text
                due = time.monotonic() >= sent_at + GATHER_S or not left
                if due and (texts or done):
                    yield [*(Piece(index=i, text=t) for i, t in texts.items()), *done]
                    sent_at, texts, done = time.monotonic(), {}, []
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait({upcoming})
            if left:
                await items.aclose()  # type: ignore[attr-defined]  # it takes its request back

    async def health(self) -> None:
        """Return when the engine can answer."""
        await self.engine.health()


def _request(evidence: bytes, sampling: Sampling) -> GenerationRequest:
    return GenerationRequest(
        id=uuid.uuid4().hex, evidence=Evidence.from_bytes(evidence), sampling=sampling
    )


def _last(item: Completion, text: str) -> Piece:
    return Piece(
        index=item.index,
        text=text,
        finish_reason=item.finish_reason,
        num_tokens=len(item.token_ids),
        prompt_tokens=item.prompt_tokens,
    )
