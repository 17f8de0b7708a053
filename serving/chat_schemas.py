"""OpenAI's chat completion responses, with what MARC adds under `marc`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from serving.schemas import Event, Reply

FinishReason = Literal["stop", "length"]


class Tokens(Reply):
    """Visual tokens of the events that the student saw: without any compression, and as read."""

    before: int
    after: int


class MarcReply(Reply):
    """What an answer rests on and what it took.

    citations: in the order in which the student saw them. retrieval: bypassed where all events of
    one video fitted. timings: wall-clock seconds by step (embed, retrieve, features, compress,
    first_token, generate, total). weights_version: of the student's weights; 0, or what `marc
    reload` said. warning: why the answer is not to be trusted, in a sentence, where that is known:
    it is about footage, and the student was not trained on any.
    """

    citations: list[Event]
    tokens: Tokens
    retrieval: Literal["retrieved", "bypassed"]
    timings: dict[str, float]
    weights_version: int
    warning: str | None = None


class Usage(Reply):
    """OpenAI's counts; prompt_tokens with the visual ones, as read."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(Reply):
    """An answer's text."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Reply):
    """One of n answers."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletion(Reply):
    """An answer at once."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    marc: MarcReply


class ChunkDelta(Reply):
    """What a choice has gained; what is null is left out."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _without_null(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in plain(self).items() if value is not None}


class ChunkChoice(Reply):
    """One choice's part of a chunk."""

    index: int
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    logprobs: None = None


class ChatChunk(Reply):
    """One event of a streamed answer. `marc` is in the chunk that ends the last choice; `usage` in
    a chunk of its own after it, where `stream_options.include_usage` asks for it."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    marc: MarcReply | None = None
