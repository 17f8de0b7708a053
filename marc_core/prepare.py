"""From questions to evidence, without a language model: what runs beside the archive.

    choose      questions -> embedded together -> k events each, in order of time      [Chosen]
    load        their stage-1 features from the archive, or from frames and the tower   [Uncut]
    compress    stage 2: merged to a budget of tokens, beside the prompt's ids       [Evidence]

Honest differences from the paper: a question may be about a whole archive, so events of several
videos can meet in one prompt (in order of time within each); retrieval is skipped when one video
is asked about and all of its events fit k; stage 1 has already run at index time, so a question's
cap of frames (`capped`) counts the groups that stage 1 left.

Letters: Q questions, D channels of an embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from marc_core.compress import CompressedVideo, compress_across, compress_event
from marc_core.errors import AnswerError, MissingFeaturesError
from marc_core.evidence import Citation, Evidence, clock_time
from marc_core.frame_cap import cap_frames
from marc_core.models.prompt import Prompt, PromptTemplate, direct_prompt
from marc_core.question import SearchQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.archive import Archive, SearchHit
    from marc_core.config import CompressConfig, MethodConfig, RetrieveConfig
    from marc_core.embed import DualEncoder
    from marc_core.question import Question, Turn
    from marc_core.types import EventFeatures

Retrieval = Literal["retrieved", "bypassed"]
Origin = Literal["cached", "decoded"]
"""Where features came from: the archive, or its frames and the vision tower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings:
    """What a deployment fixes about questions. Defaults stand in `marc_core.config`.

    max_frames: see `capped`. template: how the student wants a question with options to be put.
    """

    retrieve: RetrieveConfig
    compress: CompressConfig
    max_frames: int
    template: PromptTemplate

    @classmethod
    def of(cls, config: MethodConfig, template: PromptTemplate) -> PrepareSettings:
        """Return the settings of a configuration and of its student."""
        return cls(
            retrieve=config.retrieve,
            compress=config.compress,
            max_frames=config.student.max_frames,
            template=template,
        )


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A question and its events, in the order in which they are shown.

    timings_s: wall-clock seconds of the call that chose them, all its questions together.
    """

    question: Question
    hits: tuple[SearchHit, ...]
    retrieval: Retrieval
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Uncut:
    """A question's events with their features, before any budget: what can be cut to any budget.

    features: of `chosen.hits`, in order; events that `capped` left without a group have none.
    source_tokens: visual tokens of these events without any compression.
    """

    chosen: Chosen
    features: tuple[EventFeatures, ...]
    origin: Origin
    source_tokens: int
    timings_s: dict[str, float] = field(default_factory=dict)


class Tower(Protocol):
    """What the fallback needs of `marc_core.models.VisionTower`."""

    def encode_events(
        self, events: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
    ) -> list[EventFeatures]:
        """Return the uncompressed features of (frames (F, H, W, 3), times_s (F,))."""
        ...


class PromptParts(Protocol):
    """What a preparer needs of a student: its prompt, not its weights (`StudentFiles`)."""

    def evidence(
        self,
        user_text: str,
        video: CompressedVideo | None,
        *,
        history: Sequence[Turn],
        **shown: Any,
    ) -> Evidence:
        """Return the Evidence of a user's turn about a compressed video. shown: the other fields
        of Evidence (choices, citations, retrieval, source_tokens)."""
        ...


Compressor = Callable[["Uncut", int], CompressedVideo]
"""(uncut, budget in tokens, 0 = one frame's) -> what the student sees. Anything that cuts can take
the merge's place: the evaluation's training-free baselines do."""


class Preparer:
    """Turns questions into evidence over one archive.

    tower: makes the features that the archive lacks, asked for when they are first needed; without
    one, missing features are an error. compressor: in place of the paper's merge.
    """

    def __init__(
        self,
        archive: Archive,
        encoder: DualEncoder,
        parts: PromptParts,
        settings: PrepareSettings,
        *,
        tower: Callable[[], Tower] | None = None,
        compressor: Compressor | None = None,
    ) -> None:
        self.archive, self.encoder, self.parts, self.settings = archive, encoder, parts, settings
        self._tower = tower
        self._compressor = compressor or self._merge

    def search(self, queries: Sequence[SearchQuery]) -> list[list[SearchHit]]:
        """Return the page of events that each query asks for, best first.

        "More like this" leaves out the event that was named. Raises AnswerError for a query that
        is empty, names an unknown event, or whose image cannot be read.
        """
        vectors_QD = np.stack([self._vector(query) for query in queries])
        widened = [_with_room_for_itself(query) for query in queries]
        found = self.archive.search(widened, vectors_QD)
        return [_without_itself(query, hits) for query, hits in zip(queries, found, strict=True)]

    def choose(self, questions: Sequence[Question]) -> list[Chosen]:
        """Return each question's events in order of time; all questions are embedded in one call.

        Raises AnswerError for an empty question, a k above the ceiling, and where no event passes
        a question's filter.
        """
        timings: dict[str, float] = {}
        for question in questions:
            self._check(question)
        chosen = [self._whole_video(question) for question in questions]
        left = [i for i, hits in enumerate(chosen) if not hits]
        if left:
            with _timed(timings, "embed"):
                texts = [questions[i].search_text for i in left]
                vectors_QD = self.encoder.encode_texts(texts)
            with _timed(timings, "retrieve"):
                queries = [self._query(questions[i]) for i in left]
                found = self.archive.search(queries, vectors_QD)
        retrieved = dict(zip(left, found if left else [], strict=True))
        return [
            _chosen(question, chosen[i], retrieved.get(i), timings)
            for i, question in enumerate(questions)
        ]

    def load(self, chosen: Sequence[Chosen]) -> list[Uncut]:
        """Return the events' features; an event of several questions is read once.

        Raises MissingFeaturesError where the archive lacks some and there is no tower; VideoError
        or SourceError where their source cannot be read.
        """
        timings: dict[str, float] = {}
        hits = {hit.event_id: hit for c in chosen for hit in c.hits}
        with _timed(timings, "features"), torch.inference_mode():
            features, decoded = self._features(hits)
        return [self._uncut(c, features, decoded, timings) for c in chosen]

    def compress(
        self,
        uncut: Sequence[Uncut],
        budget_tokens: int | None = None,
        *,
        prompts: Sequence[Prompt] | None = None,
    ) -> list[Evidence]:
        """Return what the student reads of each.

        budget_tokens: for all of them; None takes each question's own, else the configured one.
        prompts: in place of MARC's own. Raises AnswerError for a budget above the ceiling or too
        small for one group.
        """
        if prompts is None:
            template = self.settings.template
            prompts = [direct_prompt(u.chosen.question, template) for u in uncut]
        return [
            self._evidence(u, budget_tokens, prompt)
            for u, prompt in zip(uncut, prompts, strict=True)
        ]

    def prepare(self, questions: Sequence[Question]) -> list[Evidence]:
        """Choose, load and compress."""
        return self.compress(self.load(self.choose(questions)))

    # Choosing

    def _check(self, question: Question) -> None:
        if not question.text.strip():
            raise AnswerError("A question must not be empty. Got only white space.")
        most = self.settings.retrieve.max_k
        if question.k is not None and not 1 <= question.k <= most:
            raise AnswerError(
                f"A question's k must be from 1 to retrieve.max_k, {most}. Got {question.k}."
            )

    def _k(self, question: Question) -> int:
        return self.settings.retrieve.k if question.k is None else question.k

    def _whole_video(self, question: Question) -> list[SearchHit]:
        """Return all events of the one video that is asked about, where they fit k; else none."""
        videos, k = question.filter.video_ids, self._k(question)
        one = videos is not None and len(videos) == 1 and question.filter.names_only_videos
        if not (one and self.settings.retrieve.bypass_when_fits):
            return []
        everything = self.archive.events(question.filter, limit=k + 1)
        return everything if len(everything) <= k else []

    def _query(self, question: Question) -> SearchQuery:
        return SearchQuery(
            text=question.search_text, filter=question.filter, limit=self._k(question)
        )

    def _vector(self, query: SearchQuery) -> NDArray[np.float32]:
        given = [x for x in (query.text, query.image, query.event_id) if x is not None]
        if len(given) != 1:
            raise AnswerError(
                f"A search takes exactly one of text, image and event_id. Got {len(given)}."
            )
        if query.event_id is not None:
            return self.archive.vector_of(query.event_id)
        if query.image is not None:
            return np.asarray(self.encoder.encode_images(_picture(query.image))[0])
        if not (query.text or "").strip():
            raise AnswerError("A search must not be empty. Got only white space.")
        return np.asarray(self.encoder.encode_texts([query.text or ""])[0])

    # Loading

    def _features(self, hits: dict[str, SearchHit]) -> tuple[dict[str, EventFeatures], set[str]]:
        """Return features by event id, and the ids of those that had to be made."""
        try:
            stored = self.archive.features(list(hits.values()))
            return dict(zip(hits, stored, strict=True)), set()
        except MissingFeaturesError as error:
            if self._tower is None:
                raise
            missing = set(error.event_ids)
        kept = [hit for event_id, hit in hits.items() if event_id not in missing]
        found = dict(zip((h.event_id for h in kept), self.archive.features(kept), strict=True))
        for event_id in hits:
            if event_id in missing:
                found[event_id] = self._encode(hits[event_id])
        return found, missing

    def _uncut(
        self,
        chosen: Chosen,
        features: dict[str, EventFeatures],
        decoded: set[str],
        timings: dict[str, float],
    ) -> Uncut:
        own = [features[hit.event_id] for hit in chosen.hits]
        return Uncut(
            chosen=chosen,
            features=tuple(capped(own, self.settings.max_frames)),
            origin="decoded" if any(h.event_id in decoded for h in chosen.hits) else "cached",
            source_tokens=sum(e.num_source_groups * e.groups_TPD.shape[1] for e in own),
            timings_s=timings,
        )

    def _encode(self, hit: SearchHit) -> EventFeatures:
        """Return an event's stage-1 features from its frames, as indexing makes them."""
        assert self._tower is not None, "the caller has checked"
        frames_FHWC, times_F = self.archive.frames(hit)
        kept = cap_frames(np.arange(len(times_F)), self.settings.max_frames)
        (features,) = self._tower().encode_events([(frames_FHWC[kept], times_F[kept])])
        return compress_event(features, self.settings.compress)

    # Compressing

    def _merge(self, uncut: Uncut, budget_tokens: int) -> CompressedVideo:
        return compress_across(uncut.features, self.settings.compress, budget_tokens=budget_tokens)

    def _budget(self, question: Question, given: int | None) -> int:
        compress = self.settings.compress
        asked = question.budget_tokens if given is None else given
        if asked is None:
            return compress.budget_tokens
        if not 0 <= asked <= compress.max_budget_tokens:
            raise AnswerError(
                "budget_tokens must be from 0 (one frame's tokens) to compress.max_budget_tokens, "
                f"{compress.max_budget_tokens}. Got {asked}."
            )
        return asked

    def _evidence(self, uncut: Uncut, budget_tokens: int | None, prompt: Prompt) -> Evidence:
        chosen = uncut.chosen
        with torch.inference_mode():
            video = self._compressor(uncut, self._budget(chosen.question, budget_tokens))
        scored = chosen.retrieval == "retrieved"
        return self.parts.evidence(
            prompt.text,
            video,
            history=prompt.history,
            choices=prompt.choices,
            citations=tuple(citation(hit, scored=scored) for hit in chosen.hits),
            retrieval=chosen.retrieval,
            source_tokens=uncut.source_tokens,
        )


def capped(events: Sequence[EventFeatures], most: int) -> list[EventFeatures]:
    """Return the events with at most `most` temporal groups in all, evenly spread over them.

    The cap of `student.max_frames` (paper, section 4: 64 frames): frames are capped by
    `cap_frames` before they are encoded; a group of stored features, which stage 1 may have merged
    from many, counts as one. Events left without a group drop out.
    """
    sizes = [event.groups_TPD.shape[0] for event in events]
    if sum(sizes) <= most:
        return list(events)
    owner = np.repeat(np.arange(len(events)), sizes)
    kept = cap_frames(np.arange(len(owner)), most)
    first = np.cumsum([0, *sizes])
    rows = [kept[owner[kept] == i] - first[i] for i in range(len(events))]
    return [_rows(e, torch.from_numpy(r)) for e, r in zip(events, rows, strict=True) if len(r)]


def _rows(event: EventFeatures, rows: torch.Tensor) -> EventFeatures:
    deepstack, counts = event.deepstack_LTPD, event.counts_T
    return replace(
        event,
        groups_TPD=event.groups_TPD[rows],
        times_T=event.times_T[rows],
        deepstack_LTPD=None if deepstack is None else deepstack[:, rows],
        counts_T=None if counts is None else counts[rows],
    )


def chronological(hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Return the hits in order of time within each video (paper, section 3.1).

    Videos share no clock: they keep the order of their best hit.
    """
    order = {v: i for i, v in enumerate(dict.fromkeys(hit.video_id for hit in hits))}
    return sorted(hits, key=lambda hit: (order[hit.video_id], hit.start_s, hit.part, hit.index))


def citation(hit: SearchHit, *, scored: bool) -> Citation:
    """Return a hit as evidence carries it; without scores where nothing was ranked."""
    return Citation(
        event_id=hit.event_id,
        video_id=hit.video_id,
        uri=hit.uri,
        start_s=hit.start_s,
        end_s=hit.end_s,
        video_start_s=hit.video_start_s,
        recorded_from=clock_time(hit.recorded_from),
        score=hit.score if scored else None,
        cosine=hit.cosine if scored else None,
    )


def _chosen(
    question: Question,
    whole: list[SearchHit],
    retrieved: list[SearchHit] | None,
    timings: dict[str, float],
) -> Chosen:
    if whole:
        return Chosen(question=question, hits=tuple(whole), retrieval="bypassed")
    if not retrieved:
        raise AnswerError(
            "No event of the memory passes the filters. Widen them, or index more videos."
        )
    return Chosen(
        question=question,
        hits=tuple(chronological(retrieved)),
        retrieval="retrieved",
        timings_s=timings,
    )


def _with_room_for_itself(query: SearchQuery) -> SearchQuery:
    if query.event_id is None:
        return query
    return replace(query, limit=query.offset + query.limit + 1, offset=0)


def _without_itself(query: SearchQuery, hits: list[SearchHit]) -> list[SearchHit]:
    if query.event_id is None:
        return hits
    others = [hit for hit in hits if hit.event_id != query.event_id]
    return others[query.offset : query.offset + query.limit]


def _picture(data: bytes) -> NDArray[np.uint8]:
    """Return an image file's bytes as (1, H, W, 3) uint8 RGB, upright. Raises AnswerError."""
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            picture = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise AnswerError(
            f"The image to search by must be a JPEG, PNG or WebP file. Got {len(data)} bytes "
            f"that cannot be read: {error}"
        ) from error
    return picture[None]


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[step] = time.perf_counter() - started
