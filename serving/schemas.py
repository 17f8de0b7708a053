"""The HTTP API's responses as types, and what both sides share (docs/serving.md lists them).

Times of a video count in seconds from its own 0:00; wall-clock times are ISO 8601 with an offset
from UTC.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Scope = Literal["read", "ask", "ingest", "admin"]
"""read: search, list, watch. ask: answers. ingest: upload, register, delete. admin: metrics."""


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


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


class TextMatch(Reply):
    """A line of an event's text that holds words of a search."""

    kind: str
    """sidecar, speech, writing or caption."""
    start_s: float
    end_s: float
    text: str
    words: list[tuple[int, int]]
    """Where in `text` the words are: first character and the one after the last, in code points."""


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
    """Similarity of what is seen; null where nothing was ranked, and where the encoder does not
    know such pictures, so that it would mean nothing."""
    text: str | None = None
    """What is said or written in it."""
    matches: list[TextMatch] = []
    """Of a search by text: the lines that hold its words, in order of time."""
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
    recorded_source: str | None = None
    """What says so: sidecar, quicktime, creation_time, file_name or mtime."""
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
