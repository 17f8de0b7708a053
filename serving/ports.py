"""What the gateway needs of the other deployments, as Protocols: it is built and tested over these,
in one process or across Ray (`serving.handles`).

    Question --Retriever.prepare--> Prepared (evidence as bytes) --Student--> Piece, Piece, ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from marc_core.question import EventFilter, Question, Sampling, SearchQuery

Row = dict[str, Any]
"""A row of the memory as plain values; times in seconds from the video's 0:00, moments as text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What the retriever makes of a question.

    evidence: `Evidence.to_bytes`. citations: the events, in the order in which they are shown.
    source_tokens, visual_tokens: before and after compression. timings_s: seconds by step.
    together: questions that were prepared at once. warning: why the answer is not to be trusted.
    """

    evidence: bytes
    citations: list[Row]
    source_tokens: int
    visual_tokens: int
    retrieval: Literal["retrieved", "bypassed"]
    timings_s: dict[str, float]
    together: int = 1
    warning: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one sample has gained; `finish_reason` with its last one. Of the last one, too:
    num_tokens: tokens generated. prompt_tokens: tokens read. weights_version: of the weights that
    drew it. together: questions that the engine was at work on when this one came."""

    index: int
    text: str
    finish_reason: Literal["stop", "length", "abort"] | None = None
    num_tokens: int = 0
    prompt_tokens: int = 0
    weights_version: int = 0
    together: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoQuery:
    """Which videos to list. bound: what the caller's key may see. name: part of the file name."""

    bound: EventFilter = field(default_factory=EventFilter)
    status: str | None = None
    camera: str | None = None
    tag: str | None = None
    folder: str | None = None
    name: str | None = None
    limit: int = 20
    offset: int = 0


class Retriever(Protocol):
    """The memory, and questions' way to their evidence. `bound`: what the caller's key may see;
    what lies outside is not there."""

    async def prepare(self, question: Question) -> Prepared:
        """Return a question's evidence. Raises AnswerError, MissingFeaturesError."""
        ...

    async def search(self, query: SearchQuery, bound: EventFilter) -> list[Row]:
        """Return the events that fit, best first. `bound` is for the named event of "more like
        this"; `query.filter` holds it already. Raises AnswerError, and a 404 for an event that is
        not there."""
        ...

    async def events(self, filter: EventFilter, limit: int, offset: int) -> list[Row]:
        """Return events that pass, by address, then by time."""
        ...

    async def event(self, event_id: str, bound: EventFilter) -> Row | None:
        """Return one event with its `texts`."""
        ...

    async def thumbnail(self, event_id: str, bound: EventFilter) -> bytes | None:
        """Return an event's picture as a JPEG file."""
        ...

    async def videos(self, query: VideoQuery) -> tuple[list[Row], int]:
        """Return a page of videos, and how many there are on all pages."""
        ...

    async def video(self, video_id: str, bound: EventFilter) -> Row | None:
        """Return one video."""
        ...

    async def source(self, video_id: str, bound: EventFilter) -> Row | None:
        """Return what names a video's file (VideoSource.of_row)."""
        ...

    async def facets(self, bound: EventFilter) -> Row:
        """Return the cameras, tags and folders of the videos."""
        ...

    async def delete(self, video_id: str) -> dict[str, int]:
        """Delete a video and everything derived; return the rows by table."""
        ...

    async def health(self) -> None:
        """Return when questions can be prepared."""
        ...


class Student(Protocol):
    """The language model."""

    async def complete(self, evidence: bytes, sampling: Sampling) -> list[Piece]:
        """Return every sample's whole text, in order. Raises AnswerError, EngineError."""
        ...

    def stream(self, evidence: bytes, sampling: Sampling) -> AsyncIterator[Sequence[Piece]]:
        """Yield what the samples gain, gathered to a few chunks a second. Leaving early frees the
        question's place. Raises like `complete`."""
        ...

    async def health(self) -> Row | None:
        """Return when questions can be answered: `weights_version`, `weights_problem`."""
        ...
