"""A question's way to its answer: the one path that jobs, evaluation and serving share.

    question --embed--> vector --retrieve--> k events, chronological
                                               |
             stage-1 features from the memory, or decoded and encoded where it holds none
                                               |
                         stage 2: merged to the budget --student--> text + citations

Honest differences from the paper: a question may be about a whole archive, so events of several
videos can meet in one prompt (in chronological order within each); stage 1 has already run at
index time; retrieval is skipped when one video is asked about and all of its events fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from marc_core.archive import SearchHit
from marc_core.compress import compress_across
from marc_core.config import AskConfig
from marc_core.errors import AnswerError
from marc_core.fingerprints import features_name
from marc_core.indexing import cap_frames, event_features
from marc_core.memory import MemoryStore, chronological, search
from marc_core.memory.archive import MemoryArchive
from marc_core.models.prompt import choices_of, question_text
from marc_core.models.student import Student
from marc_core.question import EventFilter, SearchQuery
from marc_core.types import Answer, Citation, EventFeatures, VideoSource
from marc_core.video import IsolatedDecoder, local_copy

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder


def answer_question(
    question: str,
    *,
    store: MemoryStore,
    encoder: DualEncoder,
    student: Student,
    config: AskConfig,
) -> Answer:
    """Answer `question` from the memory and cite the events that the student saw.

    Raises AnswerError when the question is empty, names an unknown video, or no event passes the
    filters; VideoError or SourceError when features are missing and a source cannot be decoded.
    """
    timings: dict[str, float] = {}
    template = config.student.options_prompt
    prompt = question_text(question, config.options, template=template)
    choices = choices_of(config.options) if template == "choice" else []
    hits, retrieval = _choose_events(question, store, encoder, config, timings)
    with _timed(timings, "features"), torch.inference_mode():
        features, origin = _features_of(hits, store, student, config)
    with _timed(timings, "compress"), torch.inference_mode():
        video = compress_across(features, config.compress)
    with _timed(timings, "generate"):
        (generation,) = student.generate([prompt], [video], choices=[choices])
    return Answer(
        question=question,
        text=generation.text,
        citations=tuple(_citation(hit, retrieval) for hit in hits),
        retrieval=retrieval,
        visual_tokens=video.num_tokens,
        visual_tokens_before=video.num_source_tokens,
        prompt_tokens=generation.prompt_tokens,
        generated_tokens=generation.generated_tokens,
        features=origin,
        timings_s=timings,
    )


def find_events(
    query: str,
    *,
    store: MemoryStore,
    encoder: DualEncoder,
    config: AskConfig,
    timings: dict[str, float] | None = None,
) -> list[SearchHit]:
    """Return the events nearest to `query` that pass the filters, best first.

    timings: receives the seconds of "embed" and "retrieve". Raises AnswerError for an empty query
    or an unknown video.
    """
    timings = {} if timings is None else timings
    if not query.strip():
        raise AnswerError("A question must not be empty. Got only white space.")
    with _timed(timings, "embed"):
        (vector_D,) = encoder.encode_texts([query])
    with _timed(timings, "retrieve"):
        asked = SearchQuery(text=query, filter=_filters(store, config), limit=config.retrieve.k)
        (hits,) = search(store, [asked], np.stack([vector_D]), config.retrieve)
        return _with_thumbnails(hits, store, config)


def _choose_events(
    question: str,
    store: MemoryStore,
    encoder: DualEncoder,
    config: AskConfig,
    timings: dict[str, float],
) -> tuple[list[SearchHit], Literal["retrieved", "bypassed"]]:
    """Return the events for the student in chronological order, and how they were chosen."""
    filters = _filters(store, config)
    alone = filters == EventFilter(video_ids=filters.video_ids)
    if config.retrieve.bypass_when_fits and filters.video_ids is not None and alone:
        everything = _all_events(store, filters.video_ids[0], config)
        if 0 < len(everything) <= config.retrieve.k:
            return everything, "bypassed"
    hits = find_events(question, store=store, encoder=encoder, config=config, timings=timings)
    if not hits:
        raise AnswerError(
            "No event of the memory passes the filters. Widen them, or index more videos."
        )
    return chronological(hits), "retrieved"


def _all_events(store: MemoryStore, video_id: str, config: AskConfig) -> list[SearchHit]:
    """Return every event of a video in order, as hits of full score."""
    archive = MemoryArchive(store, config)
    hits = archive.events(EventFilter(video_ids=(video_id,)), limit=config.retrieve.k + 1)
    return _with_thumbnails(hits, store, config)


def _with_thumbnails(
    hits: list[SearchHit], store: MemoryStore, config: AskConfig
) -> list[SearchHit]:
    pictures = MemoryArchive(store, config).thumbnails([hit.event_id for hit in hits])
    return [replace(hit, thumbnail=pictures.get(hit.event_id, b"")) for hit in hits]


def _filters(store: MemoryStore, config: AskConfig) -> EventFilter:
    video_ids = None
    if config.only_video is not None:
        row = store.get_video(config.only_video)
        if row is None:
            raise AnswerError(
                f"The memory has no video '{config.only_video}'. `marc status` counts what it "
                "holds; name a video by its id or uri."
            )
        video_ids = (row["video_id"],)
    return EventFilter(
        video_ids=video_ids,
        camera=config.camera,
        tags=config.tags,
        start_s=config.start_s,
        end_s=config.end_s,
    )


def _features_of(
    hits: Sequence[SearchHit], store: MemoryStore, student: Student, config: AskConfig
) -> tuple[list[EventFeatures], Literal["cached", "decoded"]]:
    """Return stage-1 features of the events, in order: all from the memory, or else decoded."""
    name = features_name(student.fingerprint, config)
    cached = store.load_features([hit.event_id for hit in hits], name)
    if len(cached) == len(hits):
        return [to_device(cached[hit.event_id], student) for hit in hits], "cached"
    with IsolatedDecoder(config.video) as decoder:
        decoded = [decode_features(hit, decoder, store, student, config) for hit in hits]
    return decoded, "decoded"


def decode_features(
    hit: SearchHit,
    decoder: IsolatedDecoder,
    store: MemoryStore,
    student: Student,
    config: AskConfig,
) -> EventFeatures:
    """Return an event's stage-1 features from its source: the frames that indexing sampled.

    Equal to the stored ones within the student's precision. Raises VideoError or SourceError.
    """
    row = store.get_video(hit.video_id)
    assert row is not None, "a visible event has a videos row"
    source = VideoSource.of_row(row)
    (event,) = [
        e
        for e in store.events_of(hit.video_id, columns=["event_id", "frame_times_s"]).to_pylist()
        if e["event_id"] == hit.event_id
    ]
    times_s = cap_frames(np.asarray(event["frame_times_s"]), config.student.max_frames)
    with local_copy(source, config.archive_options) as path:
        frames = decoder.read_frames(path, times_s.tolist(), stream=source.stream)
    (features,) = event_features(student, [(np.stack(frames), times_s)], config)
    return features


def to_device(features: EventFeatures, student: Student) -> EventFeatures:
    """Return the features on the student's device and in its precision."""
    deepstack = features.deepstack_LTPD
    device, dtype = student.device, student.dtype
    return replace(
        features,
        groups_TPD=features.groups_TPD.to(device, dtype),
        deepstack_LTPD=None if deepstack is None else deepstack.to(device, dtype),
    )


def _citation(hit: SearchHit, retrieval: str) -> Citation:
    return Citation(
        video_id=hit.video_id,
        uri=hit.uri,
        event_index=hit.index,
        start_s=hit.start_s,
        end_s=hit.end_s,
        score=hit.score if retrieval == "retrieved" else None,
        thumbnail=hit.thumbnail,
    )


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[step] = time.perf_counter() - started
