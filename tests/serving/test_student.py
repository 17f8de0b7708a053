"""The student's half: gathered chunks, and a place that is free again when a reader leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from marc_core.evidence import Evidence
from marc_core.models.engine import Completion, Delta, GenerationRequest, SamplingRecord
from marc_core.question import Question, Sampling
from serving.ports import Piece
from serving.retriever import MemoryRetriever
from serving.student import GATHER_S, EngineStudent


class SlowEngine:
    """Says a word every `step_s`; counts who is being answered."""

    def __init__(self, words: Sequence[str], step_s: float) -> None:
        self.words, self.step_s, self.under_way = words, step_s, 0

    async def generate(
        self, requests: Sequence[GenerationRequest]
    ) -> AsyncIterator[Delta | Completion]:
        (request,) = requests
        self.under_way += 1
        try:
            for word in self.words:
                await asyncio.sleep(self.step_s)
                yield Delta(request_id=request.id, index=0, text=word, token_ids=(1,))
            yield Completion(
                request_id=request.id, index=0, text="".join(self.words), token_ids=(1,) * 9,
                log_probs=(0.0,) * 9, finish_reason="stop", weights_version=0, prompt_tokens=5,
                visual_tokens=2, sampling=SamplingRecord(temperature=0, suppressed_ids=()),
            )  # fmt: skip
        finally:
            self.under_way -= 1


def evidence_of(retriever: MemoryRetriever) -> bytes:
    return asyncio.run(retriever.prepare(Question(text="What moves?"))).evidence


def test_the_evidence_that_crosses_is_the_preparers(retriever: MemoryRetriever) -> None:
    question = Question(text="What moves?")
    (own,) = retriever.preparer.prepare([question])
    assert Evidence.from_bytes(evidence_of(retriever)).key == own.key


def test_quick_tokens_share_chunks_and_the_first_does_not_wait(retriever: MemoryRetriever) -> None:
    engine = SlowEngine([f"{i} " for i in range(40)], 0.005)
    student, evidence = EngineStudent(engine), evidence_of(retriever)  # type: ignore[arg-type]

    async def read() -> list[tuple[float, Sequence[Piece]]]:
        started = time.monotonic()
        stream = student.stream(evidence, Sampling())
        return [(time.monotonic() - started, pieces) async for pieces in stream]

    chunks = asyncio.run(read())
    text = "".join(piece.text for _, pieces in chunks for piece in pieces)
    assert text == "".join(engine.words)
    assert len(chunks) <= 2 + (chunks[-1][0] - chunks[0][0]) / GATHER_S
    assert [p.text for p in chunks[0][1]] == ["0 "]
    assert chunks[-1][1][-1].finish_reason == "stop"


def test_a_gathered_word_does_not_wait_for_the_next_one(retriever: MemoryRetriever) -> None:
    engine = SlowEngine(["a ", "b ", "c"], 0.0)
    evidence = evidence_of(retriever)

    class Stalling(SlowEngine):
        async def generate(
            self, requests: Sequence[GenerationRequest]
        ) -> AsyncIterator[Delta | Completion]:
            async for item in super().generate(requests):
                yield item
                if isinstance(item, Delta) and item.text == "b ":
                    await asyncio.sleep(20 * GATHER_S)

    async def seconds_to_b() -> float:
        started = time.monotonic()
        stream = EngineStudent(Stalling(engine.words, 0.0)).stream(evidence, Sampling())  # type: ignore[arg-type]
        async for pieces in stream:
            if any("b" in piece.text for piece in pieces):
                return time.monotonic() - started
        raise AssertionError("b never came")

    assert asyncio.run(seconds_to_b()) < 10 * GATHER_S


def test_who_leaves_early_frees_the_place(retriever: MemoryRetriever) -> None:
    engine = SlowEngine(["word "] * 1000, 0.01)
    student, evidence = EngineStudent(engine), evidence_of(retriever)  # type: ignore[arg-type]

    async def leave() -> tuple[int, int]:
        stream = student.stream(evidence, Sampling())
        await anext(stream)
        during = engine.under_way
        await stream.aclose()  # type: ignore[attr-defined]
        return during, engine.under_way

    assert asyncio.run(leave()) == (1, 0)


def test_a_cancelled_answer_frees_the_place(retriever: MemoryRetriever) -> None:
    engine = SlowEngine(["word "] * 1000, 0.01)
    student, evidence = EngineStudent(engine), evidence_of(retriever)  # type: ignore[arg-type]

    async def cancel() -> int:
        task = asyncio.create_task(student.complete(evidence, Sampling()))
        await asyncio.sleep(0.05)
        assert engine.under_way == 1
        task.cancel()
        await asyncio.wait({task})
        return engine.under_way

    assert asyncio.run(cancel()) == 0
