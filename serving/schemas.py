"""The HTTP API as types: every request and response of every route (docs/serving.md lists them).

Requests refuse what they do not know by name. Values are strict: "3" is no number. Times of a video
count in seconds from its own 0:00; wall-clock times are ISO 8601 with an offset from UTC.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from marc_core.question import EventFilter, Question, Sampling, SearchQuery, Turn

Scope = Literal["read", "ask", "ingest", "admin"]
"""read: search, list, watch. ask: answers. ingest: upload, register, delete. admin: metrics."""

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


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


# What is asked for


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

    def to_filter(self) -> EventFilter:
        """Return the filter of the question path."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        ids = None if self.video_ids is None else tuple(self.video_ids)
        return EventFilter(**given | {"video_ids": ids, "tags": tuple(self.tags)})


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


# What is answered


class ErrorBody(Reply):
    """What went wrong: the rule that was broken and the remedy."""

    type: str
    message: str
    param: str | None = None
    """The request's field that is meant, dotted, where there is one."""
    code: str | None = None


class ErrorReply(Reply):
    """The one form of every error."""

    error: ErrorBody


class Event(Reply):
    """An event: a search's hit, an answer's citation, an entry of a video's timeline."""

    event_id: str
    video_id: str
    name: str
    """The video's file name."""
    uri: str
    start_s: float
    end_s: float
    recorded_from: str | None = None
    recorded_to: str | None = None
    score: float | None = None
    """What ranked it, higher is better; null where nothing was ranked."""
    cosine: float | None = None
    text: str | None = None
    """What is said or written in it."""
    camera: str | None = None
    tags: list[str] = []
    thumbnail_url: str | None = None
    """A JPEG; null where the event has no picture. Use it as given: it may carry a signature."""
    clip_url: str
    """The video itself with #t=start,end: a <video> plays the event. Use it as given."""


class EventText(Reply):
    """A piece of text of an event."""

    kind: str
    """sidecar, speech, writing or caption."""
    start_s: float
    end_s: float
    text: str
    language: str | None = None


class EventDetail(Event):
    """One event with its texts."""

    boundary_kind: str | None = None
    """Why it begins: start, gap, shot, semantic or max_length."""
    texts: list[EventText] = []


class EventPage(Reply):
    """A page of events. `next_offset`: of the page after this one; null where this is the last."""

    object: Literal["list"] = "list"
    data: list[Event]
    has_more: bool
    next_offset: int | None = None
    timings: dict[str, float] = {}
    """Wall-clock seconds by step."""


class Problem(Reply):
    """Why a video is not indexed."""

    kind: str
    message: str


class Video(Reply):
    """A video of the memory."""

    video_id: str
    name: str
    uri: str
    status: Literal["indexed", "failed", "quarantined"]
    error: Problem | None = None
    warnings: list[str] = []
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    codec: str | None = None
    size_bytes: int
    recorded_at: str | None = None
    camera: str | None = None
    tags: list[str] = []
    num_events: int
    indexed_at: str
    uploaded: bool = False
    """Whether deleting it deletes its file, too: only uploads are MARC's own."""
    thumbnail_url: str | None = None
    """Of its first event."""
    media_url: str
    """The video itself, with Range requests. Use it as given: it may carry a signature."""


class VideoPage(Reply):
    """A page of videos, ordered by address. `total`: of all pages."""

    object: Literal["list"] = "list"
    data: list[Video]
    has_more: bool
    next_offset: int | None = None
    total: int


class Deleted(Reply):
    """What a deletion took away. `rows`: by table of the memory."""

    video_id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
    rows: dict[str, int]
    file_deleted: bool


class Progress(Reply):
    """How far an indexing job is, in videos."""

    done: int
    failed: int
    total: int


class Job(Reply):
    """A background indexing job. Queued jobs survive a restart."""

    job_id: str
    object: Literal["job"] = "job"
    kind: Literal["upload", "register"]
    name: str
    status: Literal["queued", "running", "done", "failed"]
    """done: indexed, or recorded in the memory as failed where `progress.failed` says so."""
    progress: Progress | None = None
    message: str | None = None
    """Why it failed."""
    video_ids: list[str] = []
    """Of what was indexed, once done; at most 100."""
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None


class JobPage(Reply):
    """Jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[Job]


class Facets(Reply):
    """Values that a filter may name, as far as the caller's key sees them."""

    cameras: list[str]
    tags: list[str]
    folders: list[str]
    num_videos: int


class WhoAmI(Reply):
    """What the caller may do. Needs no scope."""

    anonymous: bool
    name: str
    scopes: list[Scope]
    model: str
    """The name to use as `model`."""
    max_upload_bytes: int
    expires_at: str | None = None


class Health(Reply):
    """Liveness and readiness."""

    status: Literal["ok", "starting"]
    parts: dict[str, str] = {}
    """Of /ready: "ok" or what is missing, by part."""
    weights_version: int | None = None
    """Of /ready: of the weights of a student's replica; 0, or what `marc reload` said."""
    weights_problem: str | None = None
    """Of /ready: why it has refused newer weights."""


class Model(Reply):
    """OpenAI's description of a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "marc"


class ModelList(Reply):
    """All models: the one student."""

    object: Literal["list"] = "list"
    data: list[Model]
