"""The retriever's part: the memory, the text encoder, the cut to a budget. No language model.

It is ready when its tables are open and its indexes warm: one search and one preparation have gone
the whole way. Questions that come together are embedded and read together. A memory whose vectors
become another encoder's is opened anew, with that encoder; questions wait meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from marc_core.config import AnswerConfig, load_config
from marc_core.errors import AnswerError, MemoryStoreError
from marc_core.memory import MemoryStore
from marc_core.question import EventFilter, Question, SearchQuery
from marc_core.session import Session
from serving.batching import Batcher
from serving.errors import not_found
from serving.ports import Prepared, Row, VideoQuery
from serving.purging import Purger
from serving.rows import Listing, event_rows

if TYPE_CHECKING:
    from marc_core.config import EncoderConfig
    from marc_core.prepare import Preparer
    from serving.config import ServeConfig

log = logging.getLogger("marc.serving")

T = TypeVar("T")
BATCH = 16
"""Questions that share a pass over the memory (our choice: sixteen cost little more than four)."""
CLOSE_AFTER_S = 60.0
"""From when on nobody works any more with a memory that was opened anew (our choice)."""


class _Open:
    """A memory that is open, with what reads it."""

    def __init__(self, session: Session, *, from_frames: bool) -> None:
        self.session = session
        self.preparer = session.make_preparer(from_frames=from_frames)
        self.listing = Listing(session.store)
        self.purger = Purger(session.store)


class MemoryRetriever:
    """A Retriever over one memory, in this process. Close it after use."""

    def __init__(self, session: Session, *, from_frames: bool = False) -> None:
        self._from_frames = from_frames
        self._now = _Open(session, from_frames=from_frames)
        self._opening = threading.Lock()
        self._questions: Batcher[Question, Prepared] = Batcher(self._prepare, most=BATCH)
        self._queries: Batcher[SearchQuery, list[Row]] = Batcher(self._search, most=BATCH)

    @classmethod
    def open(cls, config: ServeConfig, method: AnswerConfig) -> MemoryRetriever:
        """Open the memory that `method` names, and warm it. Raises MemoryStoreError,
        ModelLoadError."""
        session = Session(MemoryStore.open(method.memory), method)
        retriever = cls(session, from_frames=config.answer_from_frames)
        retriever.warm()
        return retriever

    @property
    def session(self) -> Session:
        """The open memory with its models."""
        return self._now.session

    @property
    def preparer(self) -> Preparer:
        """What makes Evidence of questions."""
        return self._now.preparer

    @property
    def listing(self) -> Listing:
        """The memory's rows."""
        return self._now.listing

    def warm(self) -> None:
        """Load the models, open every table, and read what a first question would wait for."""
        _warm(self._now)

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
        """Return when the tables answer; begin to open the memory anew where that is due."""
        await asyncio.to_thread(self._look)

    def close(self) -> None:
        """End the threads and the session."""
        self._questions.close()
        self._queries.close()
        self.session.close()

    # On worker threads

    def _prepare(self, questions: Sequence[Question]) -> list[Prepared]:
        return self._with_memory(lambda now: _prepare(now, questions))

    def _search(self, queries: Sequence[SearchQuery]) -> list[list[Row]]:
        return self._with_memory(lambda now: _search(now, queries))

    def _with_memory(self, work: Callable[[_Open], T]) -> T:
        """Return `work` of the open memory, and of one that is opened anew where its vectors were
        exchanged meanwhile."""
        now = self._now
        try:
            return work(now)
        except MemoryStoreError:
            if not now.session.store.is_outdated:
                raise
        return work(self._reopened(now))

    def _look(self) -> None:
        now = self._now
        now.session.store.tables.videos.count_rows()
        if now.session.store.is_outdated and not self._opening.locked():
            threading.Thread(target=self._reopened, args=[now], daemon=True).start()

    def _reopened(self, old: _Open) -> _Open:
        """Return the memory with the encoder that its vectors are of now; who comes meanwhile
        shares it. What was open is closed when nobody can be using it any more."""
        with self._opening:
            if self._now is old:
                config = old.session.config
                stored = MemoryStore.open(config.memory)
                encoder = _encoder_of(stored, config)
                session = Session(stored, dataclasses.replace(config, encoder=encoder))
                new = _Open(session, from_frames=self._from_frames)
                _warm(new)
                self._now = new
                later = threading.Timer(CLOSE_AFTER_S, old.session.close)
                later.daemon = True
                later.start()
                log.info("memory opened anew, with encoder %s", stored.meta.encoder_fingerprint)
            return self._now

    def _events(self, filter: EventFilter, limit: int, offset: int) -> list[Row]:
        found = self.session.archive.events(filter, limit=offset + limit)[offset:]
        return [row | {"score": None, "cosine": None} for row in event_rows(found)]

    def _delete(self, video_id: str) -> dict[str, int]:
        now = self._now
        counts = now.session.store.delete_videos([video_id])
        now.purger.want()
        return counts


def _warm(now: _Open) -> None:
    started = time.perf_counter()
    try:
        _search(now, [SearchQuery(text="a moving circle", limit=1)])
        _prepare(now, [Question(text="What moves?")])
    except AnswerError as error:  # an empty memory, or one without features: said to who asks
        log.warning("warming up: %s", error)
    now.listing.facets(EventFilter())
    log.info("retriever warm after %.1f s", time.perf_counter() - started)


def _prepare(now: _Open, questions: Sequence[Question]) -> list[Prepared]:
    preparer = now.preparer
    chosen = preparer.choose(questions)
    uncut = preparer.load(chosen, max_tokens=preparer.most_tokens(chosen))
    started = time.perf_counter()
    evidence = preparer.compress(uncut)
    compress_s = time.perf_counter() - started
    every = {hit.event_id: hit for c in chosen for hit in c.hits}
    rows = {row["event_id"]: row for row in event_rows(list(every.values()))}
    return [
        Prepared(
            evidence=found.to_bytes(),
            citations=[_ranked(rows[c.event_id], c) for c in found.citations],
            source_tokens=found.source_tokens,
            visual_tokens=found.num_tokens,
            retrieval=found.retrieval,
            timings_s=u.chosen.timings_s | u.timings_s | {"compress": compress_s},
            together=len(questions),
            warning=u.warning,
        )
        for u, found in zip(uncut, evidence, strict=True)
    ]


def _search(now: _Open, queries: Sequence[SearchQuery]) -> list[list[Row]]:
    return [event_rows(hits) for hits in now.preparer.search(queries)]


def _encoder_of(store: MemoryStore, config: AnswerConfig) -> EncoderConfig:
    """Return the encoder of the memory's last run, on the device that was asked for."""
    found = load_config(AnswerConfig, stored=store.last_config()).encoder
    return dataclasses.replace(found, device=config.encoder.device)


def _ranked(row: Row, citation: Any) -> Row:
    """Return an event's row with the scores that its citation carries."""
    return row | {"score": citation.score, "cosine": citation.cosine}
