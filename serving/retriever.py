"""The retriever's part: the memory, the text encoder, the cut to a budget. No language model.

It is ready when its tables are open and its indexes warm: one search and one preparation have gone
the whole way. Questions that come together are embedded and read together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marc_core.errors import AnswerError
from marc_core.memory import MemoryStore
from marc_core.question import EventFilter, Question, SearchQuery
from marc_core.session import Session
from serving.batching import Batcher
from serving.errors import not_found
from serving.ports import Prepared, Row, VideoQuery
from serving.purging import Purger
from serving.rows import Listing, event_rows

if TYPE_CHECKING:
    from marc_core.archive import SearchHit
    from marc_core.config import AnswerConfig
    from serving.config import ServeConfig

log = logging.getLogger("marc.serving")


class MemoryRetriever:
    """A Retriever over one open memory, in this process. Close it after use."""

    def __init__(self, session: Session, *, from_frames: bool = False, batch: int = 16) -> None:
        self.session = session
        self.preparer = session.make_preparer(from_frames=from_frames)
        self.listing = Listing(session.store)
        self._purger = Purger(session.store)
        self._questions: Batcher[Question, Prepared] = Batcher(self._prepare, most=batch)
        self._queries: Batcher[SearchQuery, list[Row]] = Batcher(self._search, most=batch)

    @classmethod
    def open(cls, config: ServeConfig, method: AnswerConfig) -> MemoryRetriever:
        """Open the memory that `method` names, and warm it. Raises MemoryStoreError,
        ModelLoadError."""
        session = Session(MemoryStore.open(method.memory), method)
        retriever = cls(
            session, from_frames=config.answer_from_frames, batch=config.retriever.max_ongoing
        )
        retriever.warm()
        return retriever

    def warm(self) -> None:
        """Load the models, open every table, and read what a first question would wait for."""
        started = time.perf_counter()
        try:
            self._search([SearchQuery(text="a moving circle", limit=1)])
            self._prepare([Question(text="What moves?")])
        except AnswerError as error:  # an empty memory, or one without features: said to who asks
            log.warning("warming up: %s", error)
        self.listing.facets(EventFilter())
        log.info("retriever warm after %.1f s", time.perf_counter() - started)

    async def prepare(self, question: Question) -> Prepared:
        """Return a question's evidence; see Retriever."""
        return await self._questions.submit(question)

    async def search(self, query: SearchQuery, bound: EventFilter) -> list[Row]:
        """Return the events that fit; see Retriever."""
        alone = query.text is None and query.image is None
        if query.event_id and alone and await self.event(query.event_id, bound) is None:
            raise not_found("event", query.event_id)
        return await self._queries.submit(query)

    async def events(self, filter: EventFilter, limit: int, offset: int) -> list[Row]:
        """Return events in order of time; see Retriever."""
        return await asyncio.to_thread(self._events, filter, limit, offset)

    async def event(self, event_id: str, bound: EventFilter) -> Row | None:
        """Return one event; see Retriever."""
        return await asyncio.to_thread(self.listing.event, event_id, bound)

    async def thumbnail(self, event_id: str, bound: EventFilter) -> bytes | None:
        """Return an event's picture; see Retriever."""
        return await asyncio.to_thread(self.listing.thumbnail, event_id, bound)

    async def videos(self, query: VideoQuery) -> tuple[list[Row], int]:
        """Return a page of videos; see Retriever."""
        return await asyncio.to_thread(self.listing.videos, query)

    async def video(self, video_id: str, bound: EventFilter) -> Row | None:
        """Return one video; see Retriever."""
        return await asyncio.to_thread(self.listing.video, video_id, bound)

    async def source(self, video_id: str, bound: EventFilter) -> Row | None:
        """Return what names a video's file; see Retriever."""
        return await asyncio.to_thread(self.listing.source, video_id, bound)

    async def facets(self, bound: EventFilter) -> Row:
        """Return cameras, tags and folders; see Retriever."""
        return await asyncio.to_thread(self.listing.facets, bound)

    async def delete(self, video_id: str) -> dict[str, int]:
        """Delete a video; see Retriever."""
        return await asyncio.to_thread(self._delete, video_id)

    async def health(self) -> None:
        """Return when the tables answer."""
        await asyncio.to_thread(self.session.store.tables.videos.count_rows)

    def close(self) -> None:
        """End the threads and the session."""
        self._questions.close()
        self._queries.close()
        self.session.close()

    # On worker threads

    def _prepare(self, questions: Sequence[Question]) -> list[Prepared]:
        chosen = self.preparer.choose(questions)
        uncut = self.preparer.load(chosen, max_tokens=self.preparer.most_tokens(chosen))
        started = time.perf_counter()
        evidence = self.preparer.compress(uncut)
        compress_s = time.perf_counter() - started
        every = {hit.event_id: hit for c in chosen for hit in c.hits}
        rows = {row["event_id"]: row for row in self._rows(list(every.values()))}
        return [
            Prepared(
                evidence=found.to_bytes(),
                citations=[_ranked(rows[c.event_id], c) for c in found.citations],
                source_tokens=found.source_tokens,
                visual_tokens=found.num_tokens,
                retrieval=found.retrieval,
                timings_s=u.chosen.timings_s | u.timings_s | {"compress": compress_s},
            )
            for u, found in zip(uncut, evidence, strict=True)
        ]

    def _search(self, queries: Sequence[SearchQuery]) -> list[list[Row]]:
        return [self._rows(hits) for hits in self.preparer.search(queries)]

    def _events(self, filter: EventFilter, limit: int, offset: int) -> list[Row]:
        found = self.session.archive.events(filter, limit=offset + limit)[offset:]
        return [row | {"score": None, "cosine": None} for row in self._rows(found)]

    def _rows(self, hits: Sequence[SearchHit]) -> list[Row]:
        return event_rows(self.session.store, hits)

    def _delete(self, video_id: str) -> dict[str, int]:
        counts = self.session.store.delete_videos([video_id])
        self._purger.want()
        return counts


def _ranked(row: Row, citation: Any) -> Row:
    """Return an event's row with the scores that its citation carries."""
    return row | {"score": citation.score, "cosine": citation.cosine}
