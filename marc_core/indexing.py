"""One video's way into the memory, as two plain functions: no Ray, no tables of other videos.

    source --decode_video--> DecodedVideo --encode_video--> IndexedVideo
             (CPU: one decode    times, shot      (GPU or CPU:       rows of `videos`, `events`,
              pass, TransNetV2,  scores, frames)   `cut`, then       `texts` and `features`, ready
              frames of short                      `encoded_events`) to publish
              shots)

They are split where the hardware changes. Between them travel the frames sampled once a second,
never the video. `cut` and `encoded_events` are also how questions and evaluations see a video.
"""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from marc_core import schemas
from marc_core.config import EventConfig, IndexConfig, MethodConfig
from marc_core.digest import content_digest
from marc_core.fingerprints import features_names, fingerprints_of
from marc_core.frame_cap import cap_frames
from marc_core.recorded.rows import recorded_row
from marc_core.text_rows import joined_texts, recorded_columns, sidecar_rows
from marc_core.types import DecodeSummary, Event, EventFeatures, Span, VideoSource
from marc_core.video_rows import base_row, sidecar_columns, summary_columns, with_own_word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.embed import DualEncoder
    from marc_core.events import ShotDetector
    from marc_core.models.vision_tower import VisionTower
    from marc_core.text import Sidecar
    from marc_core.video import IsolatedDecoder

_FRAMES_PER_CALL = 128
"""Frames of several events that go through the vision tower together (our choice: their patches,
0.3 GB for frames of 128 tokens, lie in memory at once)."""
THUMBNAIL_SIDE_PX = 320
JPEG_QUALITY = 85


class VisionEncoder(Protocol):
    """What turns frames into the student's features: a vision tower, or a student with one."""

    def encode_events(
        self, events: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
    ) -> list[EventFeatures]:
        """Return the uncompressed features of events given as (frames, times_s)."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedVideo:
    """A video after its only decode pass.

    content_digest: of the file that was decoded (marc_core.digest).
    times_s: (F,) presentation times. shot_scores: (F,) float32 transition probabilities.
    dark: (F,) whether a frame is black. sampled_index: (S,) indices into times_s.
    sampled_frames: (S, H, W, 3) uint8 RGB. span: of a part, the frames that are its own.
    """

    summary: DecodeSummary
    content_digest: str
    times_s: NDArray[np.float64]
    shot_scores: NDArray[np.float32]
    dark: NDArray[np.bool_]
    sampled_index: NDArray[np.int64]
    sampled_frames: NDArray[np.uint8]
    span: Span | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedVideo:
    """The rows of one video, by table; `features` is None when they are not stored."""

    videos: pa.Table
    events: pa.Table
    texts: pa.Table
    features: pa.Table | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A video's events and what they hold.

    positions: for each event, indices into the sampled frames, ascending, at least one; every one
    lies in the event. embeddings_SD: (S, D) unit vectors of the sampled frames.
    """

    events: tuple[Event, ...]
    positions: tuple[NDArray[np.int64], ...]
    embeddings_SD: NDArray[np.float32]


def decode_video(
    path: str, decoder: IsolatedDecoder, detector: ShotDetector, *, stream: int = 0
) -> DecodedVideo:
    """Decode a video stream of `path` once; shots are detected while samples are collected.

    Shots that fall between two samples are then read once more for a frame of their own, all in
    one pass. Raises the VideoError of whatever is wrong with the file.
    """
    from marc_core.events import ThinnedDetector, frames_to_add
    from marc_core.video.clock import repaired_by
    from marc_core.video.sampling import SampleBuffer

    times: list[NDArray[np.float64]] = []
    samples = SampleBuffer()
    with decoder.open(path, stream=stream) as decoding:
        shots = ThinnedDetector(detector, decoding.info.fps)
        for chunk in decoding:
            shots.push(chunk.shot_frames, chunk.times_s)
            times.append(chunk.times_s)
            samples.add(chunk)
        summary = decoding.summary
    times_s = np.concatenate(times)
    scores, dark = shots.finish_with_dark()
    missing = frames_to_add(
        times_s,
        scores,
        samples.index,
        detector.config,
        dark_F=dark,
        gaps=summary.gaps,
        end_s=summary.end_s,
    ).tolist()
    more = []
    if missing:
        repaired = repaired_by(summary.warnings)
        more = decoder.read_frames(
            path, times_s[missing].tolist(), stream=stream, repaired=repaired
        )
    sampled_index, sampled_frames = samples.finish(dict(zip(missing, more, strict=True)))
    return DecodedVideo(
        summary=summary,
        content_digest=content_digest(path),
        times_s=times_s,
        shot_scores=scores,
        dark=dark,
        sampled_index=sampled_index,
        sampled_frames=sampled_frames,
    )


def cut(decoded: DecodedVideo, encoder: DualEncoder, config: EventConfig) -> Cut:
    """Embed the sampled frames and cut the video into events (paper, section 3.1)."""
    from marc_core.events import segment

    embeddings_SD = encoder.encode_images(decoded.sampled_frames)
    events = segment(
        decoded.times_s,
        decoded.shot_scores,
        decoded.sampled_index,
        embeddings_SD,
        config,
        dark_F=decoded.dark,
        gaps=decoded.summary.gaps,
        end_s=decoded.summary.end_s,
        span=decoded.span,
    )
    positions = []
    for event in events:
        inside = np.searchsorted(decoded.sampled_index, [event.first_frame, event.end_frame])
        positions.append(np.arange(*inside))
    assert all(len(p) for p in positions), "decode_video samples every shot"
    return Cut(events=tuple(events), positions=tuple(positions), embeddings_SD=embeddings_SD)


def encoded_events(
    tower: VisionEncoder,
    events: Iterable[tuple[NDArray[np.uint8], NDArray[np.float64]]],
    max_frames: int,
) -> Iterator[EventFeatures]:
    """Yield the uncompressed features of events given as (frames (F, H, W, 3), times_s (F,)).

    At most `max_frames` frames of an event are seen, evenly spread. Events go through the vision
    tower together, which changes nothing in their features and costs less.
    """
    import torch

    for batch in _batches(events, max_frames):
        with torch.inference_mode():
            encoded = tower.encode_events(batch)
        yield from encoded


def _batches(
    events: Iterable[tuple[NDArray[np.uint8], NDArray[np.float64]]], max_frames: int
) -> Iterator[list[tuple[NDArray[np.uint8], NDArray[np.float64]]]]:
    """Yield capped events, as many together as `_FRAMES_PER_CALL` allows."""
    batch: list[tuple[NDArray[np.uint8], NDArray[np.float64]]] = []
    for frames_FHWC, times_F in events:
        kept = cap_frames(np.arange(len(times_F)), max_frames)
        if batch and sum(len(times) for _, times in batch) + len(kept) > _FRAMES_PER_CALL:
            yield batch
            batch = []
        batch.append((frames_FHWC[kept], times_F[kept]))
    if batch:
        yield batch


def encode_video(
    source: VideoSource,
    decoded: DecodedVideo,
    sidecar: Sidecar,
    *,
    config: IndexConfig,
    encoder: DualEncoder,
    tower: VisionTower | None,
    attempts: int = 1,
) -> IndexedVideo:
    """Embed the sampled frames, cut the video into events and return all of its rows.

    With a `tower`, stage-1 features of every event are part of the result (paper, section 3.2:
    stage 1 never looks beyond its event, so it can run before any question is known).
    """
    sidecar = sidecar.on_clock_of(decoded.summary.start_s, decoded.summary.end_s)
    sidecar = with_own_word(sidecar, decoded.summary.info)
    fingerprints = fingerprints_of(
        config, encoder.fingerprint, tower.fingerprint if tower else None
    )
    recorded, doubts = recorded_row(
        source,
        sidecar=sidecar.recorded_at,
        tags=decoded.summary.info.clock_tags,
        duration_s=decoded.summary.end_s - decoded.summary.start_s,
        config=config.clock,
    )
    rows = encode_events(
        source,
        decoded,
        sidecar,
        recorded["recorded_at"],
        config=config,
        encoder=encoder,
        tower=tower,
        video_start_s=decoded.summary.start_s,
    )
    video_row = {
        **base_row(source, attempts, fingerprints),
        **summary_columns(decoded.summary),
        **sidecar_columns(sidecar),
        "content_digest": decoded.content_digest,
        **recorded,
        "status": schemas.INDEXED,
        "num_events": rows.events.num_rows,
        "num_parts": 1,
        "texts_fingerprint": sidecar.fingerprint,
        "warnings": [*decoded.summary.warnings, *sidecar.warnings, *doubts],
    }
    return IndexedVideo(
        videos=pa.Table.from_pylist([video_row], schema=schemas.VIDEOS),
        events=rows.events,
        texts=rows.texts,
        features=rows.features,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRows:
    """The rows of the events of a video, or of one of its parts; `features` is None when they are
    not stored."""

    events: pa.Table
    texts: pa.Table
    features: pa.Table | None


def encode_events(
    source: VideoSource,
    decoded: DecodedVideo,
    sidecar: Sidecar,
    recorded_at: dt.datetime | None,
    *,
    config: IndexConfig,
    encoder: DualEncoder,
    tower: VisionTower | None,
    video_start_s: float,
    part: int = 0,
) -> EventRows:
    """Cut what was decoded into events, and return the rows of these; sidecar: on its clock."""
    made = cut(decoded, encoder, config.events)
    texts = _text_rows(source, sidecar, made.events, part)
    features = None
    if tower is not None:
        times_S = decoded.times_s[decoded.sampled_index]
        pairs = ((decoded.sampled_frames[p], times_S[p]) for p in made.positions)
        owners = [(_event_id(source, event, part), source.video_id) for event in made.events]
        features = feature_rows(owners, pairs, tower, config)
    events = _event_rows(source, decoded, sidecar, recorded_at, made, texts, part, video_start_s)
    return EventRows(events=events, texts=texts, features=features)


def _event_id(source: VideoSource, event: Event, part: int) -> str:
    return schemas.make_event_id(source.video_id, part, event.index)


def _text_rows(
    source: VideoSource, sidecar: Sidecar, events: Sequence[Event], part: int
) -> pa.Table:
    spans = [(_event_id(source, event, part), event.start_s, event.end_s) for event in events]
    rows = sidecar_rows(spans, source.video_id, sidecar)
    return pa.Table.from_pylist(rows, schema=schemas.TEXTS)


def _event_rows(
    source: VideoSource,
    decoded: DecodedVideo,
    sidecar: Sidecar,
    recorded_at: dt.datetime | None,
    made: Cut,
    texts: pa.Table,
    part: int,
    video_start_s: float,
) -> pa.Table:
    rows, text_of = [], joined_texts(texts)
    for event, positions in zip(made.events, made.positions, strict=True):
        span = (video_start_s, event.start_s, event.end_s)
        event_id = _event_id(source, event, part)
        rows.append(
            {
                "event_id": event_id,
                "video_id": source.video_id,
                "part": part,
                "index": event.index,
                "start_s": event.start_s,
                "end_s": event.end_s,
                "video_start_s": video_start_s,
                "boundary_kind": event.kind,
                "boundary_score": event.score,
                "frame_times_s": decoded.times_s[decoded.sampled_index[positions]].tolist(),
                "embedding": event_embedding(made.embeddings_SD[positions]),
                "thumbnail": thumbnail(decoded.sampled_frames[positions[len(positions) // 2]]),
                "text": text_of.get(event_id),
                "folder": schemas.folder_of(source.uri),
                **sidecar_columns(sidecar),
                **recorded_columns(recorded_at, *span),
            }
        )
    return pa.Table.from_pylist(rows, schema=schemas.events_schema(made.embeddings_SD.shape[1]))


def event_embedding(embeddings_FD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an event's unit vector: the mean direction of its frames."""
    mean_D: NDArray[np.float32] = embeddings_FD.mean(axis=0)
    return mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)


def feature_rows(
    owners: Sequence[tuple[str, str]],
    events: Iterable[tuple[NDArray[np.uint8], NDArray[np.float64]]],
    tower: VisionTower,
    config: MethodConfig,
) -> pa.Table:
    """Return the FEATURES rows of events; owners: (event_id, video_id) of each."""
    from marc_core.compress import stored_form
    from marc_core.feature_rows import features_rows

    encoded = encoded_events(tower, events, config.student.max_frames)
    forms = features_names(tower.fingerprint, config).items()
    rows = [
        row
        for (event_id, video_id), features in zip(owners, encoded, strict=True)
        for name, compress in forms
        for row in features_rows(event_id, video_id, name, stored_form(features, compress))
    ]
    return pa.Table.from_pylist(rows, schema=schemas.FEATURES)


def thumbnail(frame_HWC: NDArray[np.uint8]) -> bytes:
    """Return a JPEG of an RGB frame, its longer side at most 320 px."""
    from PIL import Image

    image = Image.fromarray(frame_HWC)
    scale = THUMBNAIL_SIDE_PX / max(image.size)
    if scale < 1:
        size = (math.ceil(image.width * scale), math.ceil(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
