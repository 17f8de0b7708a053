"""Where events come from: one Protocol over a stored memory and over videos in memory.

`MemoryArchive` (marc_core.memory.archive) reads a LanceDB memory; `FootageArchive`
(marc_core.evaluation.variants.footage_archive) holds decoded videos for an evaluation. A question
takes the same path over either.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from marc_core.question import EventFilter, SearchQuery

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.compress import StoredFeatures


@dataclass(frozen=True, kw_only=True, slots=True)
class TextLine:
    """A piece of text of an event: what is said, written or captioned, and when.

    start_s, end_s: its own, on the clock of the event's. words: where in `text` (start, end) the
    words of a search are; empty where there was none.
    """

    kind: str
    start_s: float
    end_s: float
    text: str
    words: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchHit:
    """One event found for a query.

    start_s, end_s: on the source's own clock; video_start_s: where the video's 0:00 is on it.
    recorded_from, recorded_to: the event's wall clock, where known. camera, tags: the video's.
    score: what ranked it, higher is better (the cosine, or a fused rank). cosine: similarity to
    the query, always given where the query has a vector. text_score: of the full-text search,
    None where it did not find the event. text: what is said or written in the event; matches: its
    lines that hold words of the search, in order of time. synthetic: whether the archive says that
    the video is rendered; None where it was not asked. encoder_knows: False where the encoder was
    not trained on such pictures, so that the cosine means nothing. thumbnail: a JPEG, empty where
    it was not read (`Archive.thumbnails`).
    """

    event_id: str
    video_id: str
    uri: str
    part: int
    index: int
    start_s: float
    end_s: float
    video_start_s: float = 0.0
    recorded_from: dt.datetime | None = None
    recorded_to: dt.datetime | None = None
    camera: str | None = None
    tags: tuple[str, ...] = ()
    score: float = 1.0
    cosine: float | None = None
    text_score: float | None = None
    text: str | None = None
    matches: tuple[TextLine, ...] = ()
    synthetic: bool | None = None
    encoder_knows: bool = True
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class VideoLength:
    """A whole video: how many events it was cut into, and how long it shows."""

    num_events: int
    duration_s: float


class Archive(Protocol):
    """Events of videos, with what a student needs of them."""

    def search(
        self,
        queries: Sequence[SearchQuery],
        vectors_QD: NDArray[np.float32],
        *,
        honest: bool = False,
    ) -> list[list[SearchHit]]:
        """Return the best events of each query, best first.

        vectors_QD: (Q, D) the queries' unit vectors in the events' space. Fewer hits than asked
        for where fewer events pass a query's filter. honest: where the encoder does not know
        footage, footage is found by its text alone.
        """
        ...

    def texts(self, event_ids: Sequence[str]) -> dict[str, list[TextLine]]:
        """Return the lines of text of these events in order of time, by event id; events without
        any are absent."""
        ...

    def vector_of(self, event_id: str) -> NDArray[np.float32]:
        """Return an event's (D,) embedding, for "more like this". Raises AnswerError."""
        ...

    def events(self, filter: EventFilter, *, limit: int) -> list[SearchHit]:
        """Return up to `limit` events that pass the filter, in order of time within each video."""
        ...

    def count(self, filter: EventFilter) -> int:
        """Return how many events pass the filter."""
        ...

    def why_nothing(self, filter: EventFilter) -> str:
        """Return in a sentence or two why no event passes the filter, and what there is instead."""
        ...

    def lengths(self, video_ids: Sequence[str]) -> dict[str, VideoLength]:
        """Return the lengths of these videos, by id."""
        ...

    def sample_vectors(self, most: int) -> NDArray[np.float32]:
        """Return (E, D) embeddings of at most `most` events, to learn how scores are spread."""
        ...

    def neighbours(self, hit: SearchHit) -> tuple[SearchHit | None, SearchHit | None]:
        """Return the events just before and after, by start, within one video and never across a
        gap of its recording; None where there is none."""
        ...

    def features(
        self, hits: Sequence[SearchHit], *, max_tokens: int | None = None
    ) -> list[StoredFeatures]:
        """Return the student's features of the events, in order.

        max_tokens: as many as a cut may need; None reads all. Raises MissingFeaturesError.
        """
        ...

    def frames(self, hit: SearchHit) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return an event's sampled frames ((F, H, W, 3) uint8 RGB) and their (F,) times in
        seconds. Raises VideoError or SourceError where the source cannot be read."""
        ...

    def thumbnails(self, event_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the events' pictures as JPEG files, by event id; unknown events are absent."""
        ...
