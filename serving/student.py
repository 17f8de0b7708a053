"""The student's part: one engine, which batches what is under way. It opens no memory. Its weights
may be exchanged meanwhile (serving.weights).

    evidence (bytes) --Evidence.from_bytes--> StudentEngine --deltas--> pieces, gathered

Tokens of a stream are gathered: the first goes out at once, later ones at most every `GATHER_S`, so
that a chunk's cost in CPU does not decide how many streams a machine carries.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.errors import EngineError
from marc_core.evidence import Evidence
from marc_core.models.engine import Completion, GenerationRequest
from serving.ports import Piece
from serving.weights import Gate, Weights

if TYPE_CHECKING:
    from marc_core.models.engine import Delta, StudentEngine
    from marc_core.question import Sampling

LOAD_S = 600.0
"""A student that takes new weights is healthy for so long (our choice: Serve replaces replicas that
do not answer for half a minute)."""
GATHER_S = 0.05
"""Least time between two chunks of a stream (our choice: 20 a second read as continuous)."""


class EngineStudent:
    """A Student over one engine, in this process."""

    def __init__(self, engine: StudentEngine) -> None:
        self.engine = engine
        self.weights_version, self.weights_problem = 0, ""
        self._gate = Gate()
        self._lost = False
        self._load_ends_by = 0.0

    async def complete(self, evidence: bytes, sampling: Sampling) -> list[Piece]:
        """Return every sample's whole text; see Student."""
        request = _request(evidence, sampling)
        async with self._gate.inside() as together:
            found = [i async for i in self.engine.generate([request]) if isinstance(i, Completion)]
        return [_last(item, item.text, together) for item in sorted(found, key=lambda c: c.index)]

    async def stream(self, evidence: bytes, sampling: Sampling) -> AsyncIterator[Sequence[Piece]]:
        """Yield what the samples gain; see Student."""
        async with self._gate.inside() as together:
            stream: Any = self._stream(evidence, sampling, together)
            async with aclosing(stream):
                async for pieces in stream:
                    yield pieces

    async def load(self, weights: Weights, *, back_to: Weights, wait_s: float) -> None:
        """Exchange the weights when all answers under way have ended; who comes meanwhile waits.

        Raises TimeoutError where those take longer than `wait_s`; what the engine raises, with the
        weights `back_to` in it.
        """
        async with self._gate.alone(wait_s):
            self._load_ends_by = time.monotonic() + LOAD_S
            try:
                await self._load(weights)
            except BaseException:
                self._lost = True  # which weights the engine holds is not known
                await self._load(back_to)
                self._lost = False
                raise
            finally:
                self._load_ends_by = 0.0
        self.weights_version, self.weights_problem = weights.version, ""

    async def _load(self, weights: Weights) -> None:
        path = Path(weights.path) if weights.path else self.engine.files.directory  # type: ignore[attr-defined]
        await self.engine.load_weights(path, weights.version)

    async def _stream(
        self, evidence: bytes, sampling: Sampling, together: int
    ) -> AsyncIterator[Sequence[Piece]]:
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
                        done.append(_last(item, texts.pop(item.index, ""), together))
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

    async def health(self) -> dict[str, Any]:
        """Return when the engine can answer: the version of its weights, and why newer ones were
        refused."""
        if time.monotonic() > self._load_ends_by:  # an engine that loads answers when it is done
            await self.engine.health()
            if self._lost:
                raise EngineError("The student's weights are half exchanged. Start it again.")
        return {"weights_version": self.weights_version, "weights_problem": self.weights_problem}


def _request(evidence: bytes, sampling: Sampling) -> GenerationRequest:
    return GenerationRequest(
        id=uuid.uuid4().hex, evidence=Evidence.from_bytes(evidence), sampling=sampling
    )


def _last(item: Completion, text: str, together: int) -> Piece:
    return Piece(
        index=item.index,
        text=text,
        finish_reason=item.finish_reason,
        num_tokens=len(item.token_ids),
        prompt_tokens=item.prompt_tokens,
        weights_version=item.weights_version,
        together=together,
    )
