"""A question's way to its answer: the one path of jobs, notebooks, evaluation and serving.

    Question --Preparer--> Evidence --StudentEngine--> Delta, ..., Completion --> Answer
               (archive, text encoder;                 (language model)
                no language model)

`Answerer` holds both halves in one process. They are split where a deployment splits: Evidence is
plain data that crosses to a student in another process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marc_core.models.answering import answer_all
from marc_core.models.engine import Completion, Delta, FinishReason, GenerationRequest

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.config import MethodConfig
    from marc_core.evidence import Citation, Evidence
    from marc_core.models.engine import StudentEngine
    from marc_core.prepare import Preparer
    from marc_core.prepared import Origin, Retrieval, Uncut
    from marc_core.question import Question, Sampling, SearchQuery


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of an answer: prompt with visual ones; visual; visual without any compression;
    generated in all samples."""

    prompt_tokens: int
    visual_tokens: int
    source_tokens: int
    generated_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer and what it rests on.

    text, finish_reason: of the first sample. samples: all n. citations: the events that the student
    saw, in the order in which it saw them; their pictures are fetched apart
    (`Answerer.thumbnails`). warning: why it is not to be trusted, where that is known. timings_s:
    wall-clock seconds by step, of the whole call where several questions shared it.
    """

    question: Question
    text: str
    finish_reason: FinishReason
    samples: tuple[Completion, ...]
    citations: tuple[Citation, ...]
    retrieval: Retrieval
    features: Origin
    usage: Usage
    timings_s: dict[str, float]
    warning: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "question": self.question.to_json(),
            "text": self.text,
            "finish_reason": self.finish_reason,
            "samples": [
                {"index": s.index, "text": s.text, "finish_reason": s.finish_reason,
                 "tokens": len(s.token_ids), "log_prob": sum(s.log_probs)}
                for s in self.samples
            ],
            "citations": [dataclasses.asdict(c) for c in self.citations],
            "retrieval": self.retrieval,
            "features": self.features,
            "usage": dataclasses.asdict(self.usage),
            "timings_s": self.timings_s,
            "warning": self.warning,
        }  # fmt: skip


class Answerer:
    """Searches an archive and answers questions about it, in one process.

    config: gives `student.temperature` and `student.max_new_tokens` to questions that name none.
    """

    def __init__(self, preparer: Preparer, engine: StudentEngine, config: MethodConfig) -> None:
        self.preparer, self.engine = preparer, engine
        self._temperature = config.student.temperature
        self._max_tokens = config.student.max_new_tokens

    def search(self, query: SearchQuery) -> list[SearchHit]:
        """Return a page of the events that fit, best first. Raises AnswerError."""
        return self.preparer.search([query])[0]

    def thumbnails(self, event_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the events' pictures as JPEG files, by event id."""
        return self.preparer.archive.thumbnails(event_ids)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer the questions together, in order.

        Raises AnswerError for a question that cannot be asked; VideoError or SourceError when
        features are missing and a source cannot be decoded.
        """
        samplings = [self._sampling(q) for q in questions]
        uncut, evidence, compress_s = self._prepared(questions)
        started = time.perf_counter()
        samples = completed(self.engine, evidence, samplings)
        timings = {"compress": compress_s, "generate": time.perf_counter() - started}
        return [
            make_answer(u, e, s, timings) for u, e, s in zip(uncut, evidence, samples, strict=True)
        ]

    async def stream(self, question: Question) -> AsyncIterator[Delta | Answer]:
        """Yield what the answer's samples gain, and the whole Answer at the end.

        Leaving early frees the question's place in the engine. Raises like `answer`.
        """
        sampling = self._sampling(question)
        uncut, evidence, compress_s = await asyncio.to_thread(self._prepared, [question])
        request = GenerationRequest(id=uuid.uuid4().hex, evidence=evidence[0], sampling=sampling)
        started, samples = time.perf_counter(), []
        items = self.engine.generate([request])
        try:
            async for item in items:
                if isinstance(item, Delta):
                    yield item
                else:
                    samples.append(item)
        finally:
            if len(samples) < sampling.n:
                await self.engine.abort(request.id)
        timings = {"compress": compress_s, "generate": time.perf_counter() - started}
        samples.sort(key=lambda s: s.index)
        yield make_answer(uncut[0], evidence[0], samples, timings)

    def _sampling(self, question: Question) -> Sampling:
        return question.sampling.or_defaults(
            temperature=self._temperature, max_tokens=self._max_tokens
        )

    def _prepared(self, questions: Sequence[Question]) -> tuple[list[Uncut], list[Evidence], float]:
        chosen = self.preparer.choose(questions)
        uncut = self.preparer.load(chosen, max_tokens=self.preparer.most_tokens(chosen))
        started = time.perf_counter()
        evidence = self.preparer.compress(uncut)
        return uncut, evidence, time.perf_counter() - started


def completed(
    engine: StudentEngine, evidence: Sequence[Evidence], samplings: Sequence[Sampling]
) -> list[list[Completion]]:
    """Return each evidence's completed samples, in order of their index. Blocks until all are
    done; works where an event loop is running already, too (a notebook)."""
    requests = [
        GenerationRequest(id=uuid.uuid4().hex, evidence=e, sampling=s)
        for e, s in zip(evidence, samplings, strict=True)
    ]
    done: dict[str, list[Completion]] = {request.id: [] for request in requests}
    for completion in answer_all(engine, requests):
        done[completion.request_id].append(completion)
    return [done[request.id] for request in requests]


def make_answer(
    uncut: Uncut, evidence: Evidence, samples: Sequence[Completion], timings_s: dict[str, float]
) -> Answer:
    """Return the answer of one question. timings_s: what came after loading."""
    first = samples[0]
    return Answer(
        question=uncut.chosen.question,
        text=first.text,
        finish_reason=first.finish_reason,
        samples=tuple(samples),
        citations=evidence.citations,
        retrieval=evidence.retrieval,
        features=uncut.origin,
        usage=Usage(
            prompt_tokens=first.prompt_tokens,
            visual_tokens=evidence.num_tokens,
            source_tokens=evidence.source_tokens,
            generated_tokens=sum(len(s.token_ids) for s in samples),
        ),
        timings_s=uncut.chosen.timings_s | uncut.timings_s | timings_s,
        warning=uncut.warning,
    )
