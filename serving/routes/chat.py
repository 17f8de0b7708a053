"""OpenAI's chat completions: a question, its evidence, an answer that cites it."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Send

from marc_core.errors import AnswerError, NothingFoundError
from marc_core.question import Question
from serving.access import Caller
from serving.chat_schemas import (
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    ChunkDelta,
    MarcReply,
    Tokens,
    Usage,
)
from serving.errors import ApiError, api_error, cause_of
from serving.gateway import Gateway, gateway_of, needs
from serving.openapi import STREAM
from serving.ports import Piece, Prepared
from serving.request_schemas import ChatRequest
from serving.routes.models import check_model
from serving.tracing import note_text

router = APIRouter(prefix="/v1")
log = logging.getLogger("marc.serving")

NOTHING_SEEN = "No event that this key sees passes the filter. Widen it."
"""Instead of what the memory has otherwise, which a bound key may not know."""


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": STREAM}}},
)
async def chat(
    body: ChatRequest,
    request: Request,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("ask")),
) -> Any:
    """Answer a question from the memory."""
    _check(body)
    check_model(gateway, body.model)
    question = body.to_question(caller.filter(body.marc.filter.to_filter()))
    answer = _Answer(gateway, caller, question, body)
    note_text(question=question.text)
    if not body.stream:
        return JSONResponse((await answer.whole()).model_dump())
    lines = answer.lines(request.scope["request_id"])
    first = await anext(lines)  # what goes wrong before it is an ordinary error
    return _EventStream(_after(first, lines))


def _check(body: ChatRequest) -> None:
    if body.messages[-1].role != "user":
        message = "The last message must be the user's question. Got one of the assistant."
        raise ApiError(422, "invalid_value", message, param="messages")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        message = "max_tokens and max_completion_tokens are one setting. Give one of them."
        raise ApiError(422, "invalid_value", message, param="max_completion_tokens")
    if body.stream_options is not None and not body.stream:
        message = "stream_options needs stream=true."
        raise ApiError(422, "invalid_value", message, param="stream_options")


class _Answer:
    """One question on its way to its answer."""

    def __init__(
        self, gateway: Gateway, caller: Caller, question: Question, body: ChatRequest
    ) -> None:
        self.gateway, self.caller, self.question, self.body = gateway, caller, question, body
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.started = time.perf_counter()
        self.deadline = asyncio.get_running_loop().time() + gateway.config.limits.deadline_s
        self.prepared: Prepared
        self.timings_s: dict[str, float] = {}

    async def _prepare(self) -> None:
        """Get the evidence. Raises AnswerError, TimeoutError and what a lost part gives."""
        try:
            async with asyncio.timeout_at(self.deadline):
                self.prepared = await self.gateway.retriever.prepare(self.question)
        except Exception as error:
            if self.caller.is_bound and isinstance(cause_of(error), NothingFoundError):
                raise AnswerError(NOTHING_SEEN) from None
            raise
        self.generating = time.perf_counter()

    async def whole(self) -> ChatCompletion:
        """Return the answer at once. Raises what `_prepare` raises, and a 503 of a full queue."""
        with self.gateway.place():
            await self._prepare()
            async with asyncio.timeout_at(self.deadline):
                samples = await self.gateway.student.complete(
                    self.prepared.evidence, self.question.sampling
                )
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.body.model,
            choices=[
                Choice(
                    index=s.index,
                    message=AnswerMessage(content=s.text),
                    finish_reason=_reason(s),
                )
                for s in samples
            ],
            usage=_usage(samples),
            marc=self._marc(samples),
        )

    async def lines(self, request_id: str) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events; the first comes with the first token."""
        with self.gateway.place():
            await self._prepare()
            async with aclosing(self._lines(request_id)) as lines:
                async for line in lines:
                    yield line

    async def _lines(self, request_id: str) -> AsyncGenerator[str, None]:
        samples: list[Piece] = []
        begun: set[int] = set()
        try:
            async for pieces in self._pieces():
                self.timings_s.setdefault("first_token", time.perf_counter() - self.generating)
                choices = [c for piece in pieces for c in _choices(piece, begun)]
                samples += [piece for piece in pieces if piece.finish_reason is not None]
                is_last = len(samples) == self.question.sampling.n
                ends = self._line(choices[-1], marc=self._marc(samples) if is_last else None)
                yield "".join([*map(self._line, choices[:-1]), ends])
        except Exception as error:
            if not begun:
                raise
            yield f"data: {JSONResponse(api_error(error, request_id).body()).body.decode()}\n\n"
            return
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            yield self._line(None, usage=_usage(samples))
        yield "data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[Sequence[Piece]]:
        """Yield what the student sends, until the deadline. Raises TimeoutError."""
        sampling = self.question.sampling
        stream: Any = self.gateway.student.stream(self.prepared.evidence, sampling)
        async with aclosing(stream):
            while True:
                async with asyncio.timeout_at(self.deadline):
                    pieces = await anext(stream, None)
                if pieces is None:
                    return
                yield pieces

    def _line(
        self,
        choice: ChunkChoice | None,
        *,
        usage: Usage | None = None,
        marc: MarcReply | None = None,
    ) -> str:
        chunk = ChatChunk(
            id=self.id, created=self.created, model=self.body.model,
            choices=[] if choice is None else [choice], usage=usage, marc=marc,
        )  # fmt: skip
        left_out = {n for n in ("usage", "marc") if getattr(chunk, n) is None}
        return f"data: {chunk.model_dump_json(exclude=left_out)}\n\n"

    def _marc(self, samples: Sequence[Piece]) -> MarcReply:
        now = time.perf_counter()
        steps = {**self.prepared.timings_s, **self.timings_s, "generate": now - self.generating}
        prepared = self.prepared
        self.gateway.metrics.answer(
            prepared.source_tokens,
            prepared.visual_tokens,
            sum(s.num_tokens for s in samples),
            steps,
            together={"retriever": prepared.together, "student": samples[0].together},
            weights_version=samples[0].weights_version,
        )
        return MarcReply(
            citations=[self.gateway.event(row, self.caller) for row in prepared.citations],
            tokens=Tokens(before=prepared.source_tokens, after=prepared.visual_tokens),
            retrieval=prepared.retrieval,
            timings=steps | {"total": now - self.started},
            weights_version=samples[0].weights_version,
            warning=prepared.warning,
        )


class _EventStream(StreamingResponse):
    """Server-sent events; whatever ends them also ends what makes them."""

    def __init__(self, lines: AsyncGenerator[str, None]) -> None:
        self._lines = lines
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(lines, media_type="text/event-stream", headers=headers)

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._lines):
            await super().stream_response(send)


async def _after(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async with aclosing(rest):
        yield first
        async for line in rest:
            yield line


def _choices(piece: Piece, begun: set[int]) -> list[ChunkChoice]:
    """Return a piece as OpenAI sends it, one choice a chunk: text, the first time with the role;
    the reason of the end alone."""
    found = []
    is_first = piece.index not in begun
    begun.add(piece.index)
    if is_first or piece.text:
        delta = ChunkDelta(role="assistant" if is_first else None, content=piece.text)
        found.append(ChunkChoice(index=piece.index, delta=delta))
    if piece.finish_reason is not None:
        reason = _reason(piece)
        found.append(ChunkChoice(index=piece.index, delta=ChunkDelta(), finish_reason=reason))
    return found


def _reason(piece: Piece) -> Any:
    if piece.finish_reason == "abort":
        raise ApiError(503, "unavailable", "The answer was cut short. Try again.", retry_after_s=1)
    return piece.finish_reason


def _usage(samples: Sequence[Piece]) -> Usage:
    read, written = samples[0].prompt_tokens, sum(s.num_tokens for s in samples)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
