"""An engine of known cost behind the StudentEngine protocol: what a student of 3 billion parameters
takes on a GPU, without the GPU.

A batch of up to 16 requests takes 150 ms and then 20 ms a token; whoever comes meanwhile waits for
the next batch. Answers have 32 tokens, one word each.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from marc_core.models.engine import (
    Completion,
    Delta,
    EngineSpec,
    GenerationRequest,
    SamplingRecord,
)

BATCH, FIRST_S, TOKEN_S, TOKENS = 16, 0.150, 0.020, 32
ANSWER = tuple(f"word{i} " for i in range(TOKENS))


@dataclass(eq=False)
class _Waiting:
    request: GenerationRequest
    items: asyncio.Queue[Delta | Completion] = field(default_factory=asyncio.Queue)
    gone: bool = False


class TimedEngine:
    """A StudentEngine that only takes time. batches: sizes of those that are done."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._waiting: deque[_Waiting] = deque()
        self._work: asyncio.Task[None] | None = None
        self.spec = EngineSpec(
            model="timed", fingerprint="any", kv_bytes_per_token=0, own_positions=True
        )

    async def generate(
        self, requests: Sequence[GenerationRequest]
    ) -> AsyncIterator[Delta | Completion]:
        """Yield the answer's words as they come; see StudentEngine."""
        (request,) = requests
        mine = _Waiting(request)
        self._waiting.append(mine)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        try:
            while True:
                item = await mine.items.get()
                yield item
                if isinstance(item, Completion):
                    return
        finally:
            mine.gone = True

    async def health(self) -> None:
        """Return at once."""

    async def _run(self) -> None:
        while True:
            batch = self._next()
            if not batch:
                return
            due = time.monotonic() + FIRST_S
            for word in ANSWER:
                due += TOKEN_S
                await asyncio.sleep(due - time.monotonic())
                for row in batch:
                    delta = Delta(request_id=row.request.id, index=0, text=word, token_ids=(1,))
                    row.items.put_nowait(delta)
            for row in batch:
                row.items.put_nowait(_completion(row.request.id))
            self.batches.append(len(batch))

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < BATCH:
            row = self._waiting.popleft()
            if not row.gone:
                batch.append(row)
        return batch


def _completion(request_id: str) -> Completion:
    return Completion(
        request_id=request_id, index=0, text="".join(ANSWER), token_ids=(1,) * TOKENS,
        log_probs=(0.0,) * TOKENS, finish_reason="stop", weights_version=0, prompt_tokens=100,
        visual_tokens=9, sampling=SamplingRecord(temperature=0, suppressed_ids=()),
    )  # fmt: skip


async def direct_rate(evidence: bytes, callers: int, seconds: float) -> dict[str, float]:
    """Return the answers a second of an engine that is called in its own process, by so many
    callers who each ask again at once."""
    from marc_core.question import Sampling
    from serving.student import EngineStudent

    engine = TimedEngine()
    student, done, stops = EngineStudent(engine), 0, time.monotonic() + seconds

    async def ask() -> None:
        nonlocal done
        while time.monotonic() < stops:
            await student.complete(evidence, Sampling())
            done += 1

    started = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(callers)))
    wall_s = time.monotonic() - started
    return {"answers_per_s": done / wall_s, "mean_batch": sum(engine.batches) / len(engine.batches)}
