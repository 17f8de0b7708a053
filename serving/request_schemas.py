"""The HTTP API's requests as types (docs/serving.md lists them).

Requests refuse what they do not know by name. Values are strict: "3" is no number. Times of a video
count in seconds from its own 0:00; wall-clock times are ISO 8601 with an offset from UTC.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from marc_core.question import EventFilter, Question, Sampling, SearchQuery, Turn
from marc_core.schemas import TextKind

MAX_PAGE = 100
"""Items of a page at most (our choice)."""
MAX_OFFSET = 10_000
"""Deepest page (our choice: a ranking of ten thousand events is nobody's reading)."""
MAX_TEXT = 20_000
"""Characters of a text at most (our choice: several times what a student reads)."""
MAX_SAMPLES = 16
"""Answers drawn for one request at most (our choice)."""
MAX_SEED = 2**53 - 1
"""Largest seed: the last whole number that every reader of JSON keeps as it is (RFC 8259)."""
MAX_IMAGE = 6_000_000
"""Characters of a base64 image at most, 4.5 MB as a file (our choice)."""


def _iso(value: Any) -> Any:
    if value is not None and not isinstance(value, str | dt.datetime):
        raise ValueError("must be a time in ISO 8601 with an offset from UTC")
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Takes a whole number as JSON has it: 3.0 is one."""
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Moment = Annotated[
    AwareDatetime, BeforeValidator(_iso), Field(strict=False, examples=["2026-05-01T08:00:00Z"])
]
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class Request(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Filter(Request):
    """Which events may be found; all conditions hold together. Left out: no condition."""

    video_ids: list[Name] | None = Field(None, max_length=1000)
    """Events of these videos only; an empty list matches nothing."""
    folder: Name | None = None
    """The video's address lies in this folder or below it."""
    camera: Name | None = None
    tags: list[Name] = Field([], max_length=100)
    """All of them must be there."""
    recorded_from: Moment | None = None
    """The event was recorded after this moment, at least in part."""
    recorded_to: Moment | None = None
    """The event was recorded before this moment, at least in part."""
    start_s: Seconds | None = None
    """The event ends after this second of its video."""
    end_s: Seconds | None = None
    """The event starts before this second of its video."""
    kinds: list[TextKind] = Field([], max_length=4)
    """The event has text of one of these kinds, and words are searched in these alone."""

    def to_filter(self) -> EventFilter:
        """Return the filter of the question path."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        ids = None if self.video_ids is None else tuple(self.video_ids)
        return EventFilter(
            **given | {"video_ids": ids, "tags": tuple(self.tags), "kinds": tuple(self.kinds)}
        )


def _given(*names: str, kind: str = "string") -> dict[str, Any]:
    """Return what a JSON object must be to have values other than null of these names."""
    return {"required": [*names], "properties": {name: {"type": kind} for name in names}}


class SearchRequest(Request):
    """Exactly one of text, image and event_id."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_given(name) for name in ("text", "image", "event_id")]}
    )

    text: Text | None = Field(None, examples=["a red circle"])
    image: Annotated[str, Field(max_length=MAX_IMAGE)] | None = None
    """A JPEG, PNG or WebP file in base64."""
    event_id: Name | None = None
    """More like this event."""
    filter: Filter = Filter()
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE), WHOLE] = 10
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET), WHOLE] = 0

    def to_query(self, filter: EventFilter, image: bytes | None) -> SearchQuery:
        """Return the query of the question path, for one hit more than the page: it tells whether
        another page follows."""
        return SearchQuery(
            text=self.text,
            image=image,
            event_id=self.event_id,
            filter=filter,
            limit=self.limit + 1,
            offset=self.offset,
        )


class TextPart(Request):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class Message(Request):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=100)]

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class MarcOptions(Request):
    """What a question may say beyond OpenAI's fields."""

    filter: Filter = Filter()
    k: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = None
    """Events to retrieve; left out: the deployment's own number."""
    budget_tokens: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    """Visual tokens at most; 0 is one frame's; left out: the deployment's own."""
    options: list[Text] = Field([], max_length=26)
    """Options of a multiple-choice question, in order A, B, ...."""


class StreamOptions(Request):
    """OpenAI's options of a streamed answer."""

    include_usage: bool = False


class ChatRequest(Request):
    """OpenAI's chat completion request, as far as MARC has an answer to it."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": _given("max_tokens", "max_completion_tokens", kind="integer"),
            "if": _given("stream_options", kind="object"),
            "then": {"required": ["stream"], "properties": {"stream": {"const": True}}},
        }
    )

    model: Name = Field(examples=["marc"])
    messages: list[Message] = Field(
        min_length=1,
        max_length=200,
        examples=[[{"role": "user", "content": "Which way does the red circle move?"}]],
    )
    """The last one, from the user, is the question; those before it are earlier turns."""
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: Annotated[int, Field(ge=1, le=100_000), WHOLE] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=100_000), WHOLE] | None = None
    """OpenAI's newer name of max_tokens; not both."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_SAMPLES), WHOLE] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    marc: MarcOptions = MarcOptions()

    def to_question(self, filter: EventFilter) -> Question:
        """Return the question of the question path."""
        *earlier, last = self.messages
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        most = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        return Question(
            text=last.text,
            history=tuple(Turn(role=turn.role, text=turn.text) for turn in earlier),
            options=tuple(self.marc.options),
            filter=filter,
            k=self.marc.k,
            budget_tokens=self.marc.budget_tokens,
            sampling=Sampling(
                temperature=self.temperature,
                max_tokens=most,
                seed=self.seed,
                stop=tuple(text for text in stop if text),
                n=self.n,
            ),
        )


class RegisterRequest(Request):
    """A file, folder or bucket prefix to index where it lies, below a configured root."""

    uri: Name = Field(examples=["s3://bucket/cameras/gate-3/2026-05-01.mp4"])
