"""One video's way into the memory, as two plain functions: no Ray, no tables of other videos.

    source --decode_video--> DecodedVideo --encode_video--> IndexedVideo
             (CPU: one decode    times, shot      (GPU or CPU:       rows of `videos`, `events`,
              pass, TransNetV2)  scores, frames)   embed, segment,   `texts` and `features`, ready
                                                   stage-1 features) to publish

They are split where the hardware changes. Between them travel the frames sampled once a second,
never the video.
"""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.digest import content_digest
from marc_core.fingerprints import Fingerprints, features_name, fingerprints_of
from marc_core.text_rows import joined_texts, recorded_columns, sidecar_rows
from marc_core.types import DecodeSummary, Event, VideoSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.embed import DualEncoder
    from marc_core.events import ShotDetector
    from marc_core.models.vision_tower import VisionTower
    from marc_core.text import Sidecar
    from marc_core.video import IsolatedDecoder

THUMBNAIL_SIDE_PX = 320
JPEG_QUALITY = 85
QUARANTINED_KINDS = frozenset({"timeout", "decoder_crash"})
"""What stalls or kills a decoder: tried `max_attempts` times, then left alone."""
TRANSIENT_KINDS = QUARANTINED_KINDS | {"source", "worker_lost", "internal"}
"""Failures that a later attempt may not meet again, and that every run tries again; all others are
the file's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedVideo:
    """A video after its only decode pass.

    content_digest: of the file that was decoded (marc_core.digest).
    times_s: (F,) presentation times. shot_scores: (F,) float32 transition probabilities.
    dark: (F,) whether a frame is black. sampled_index: (S,) indices into times_s.
    sampled_frames: (S, H, W, 3) uint8 RGB.
    """

    summary: DecodeSummary
    content_digest: str
    times_s: NDArray[np.float64]
    shot_scores: NDArray[np.float32]
    dark: NDArray[np.bool_]
    sampled_index: NDArray[np.int64]
    sampled_frames: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedVideo:
    """The rows of one video, by table; `features` is None when they are not stored."""

    videos: pa.Table
    events: pa.Table
    texts: pa.Table
    features: pa.Table | None


def decode_video(
    path: str, decoder: IsolatedDecoder, detector: ShotDetector, *, stream: int = 0
) -> DecodedVideo:
    """Decode a video stream of `path` once; shots are detected while samples are collected.

    Raises the VideoError of whatever is wrong with the file.
    """
    times, indices, frames = [], [], []
    offset = 0
    detector.reset()
    with decoder.open(path, stream=stream) as decoding:
        for chunk in decoding:
            detector.push(chunk.shot_frames)
            times.append(chunk.times_s)
            indices.append(chunk.sampled_index + offset)
            if len(chunk.sampled_frames):
                frames.append(chunk.sampled_frames)
            offset += len(chunk.times_s)
        summary = decoding.summary
    shot_scores, dark = detector.finish_with_dark()
    return DecodedVideo(
        summary=summary,
        content_digest=content_digest(path),
        times_s=np.concatenate(times),
        shot_scores=shot_scores,
        dark=dark,
        sampled_index=np.concatenate(indices),
        sampled_frames=_joined(frames),
    )


def _joined(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Concatenate `parts` and empty it on the way, so that nothing is held twice."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.uint8)
    end = len(whole)
    while parts:
        last = parts.pop()
        whole[end - len(last) : end] = last
        end -= len(last)
    return whole


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
    from marc_core.events import segment

    sidecar = sidecar.on_clock_of(decoded.summary.start_s, decoded.summary.end_s)
    embeddings_SD = encoder.encode_images(decoded.sampled_frames)
    events = segment(
        decoded.times_s,
        decoded.shot_scores,
        decoded.sampled_index,
        embeddings_SD,
        config.events,
        dark_F=decoded.dark,
    )
    samples = [samples_of(event, decoded.sampled_index) for event in events]
    fingerprints = fingerprints_of(
        config, encoder.fingerprint, tower.fingerprint if tower else None
    )
    video_row = {
        **base_row(source, attempts, fingerprints),
        **_summary_columns(decoded.summary),
        **_sidecar_columns(sidecar),
        "content_digest": decoded.content_digest,
        "recorded_at": sidecar.recorded_at,
        "status": schemas.INDEXED,
        "num_events": len(events),
        "num_parts": 1,
        "texts_fingerprint": sidecar.fingerprint,
        "warnings": [*decoded.summary.warnings, *sidecar.warnings],
    }
    texts = _text_rows(source, sidecar, events)
    return IndexedVideo(
        videos=pa.Table.from_pylist([video_row], schema=schemas.VIDEOS),
        events=_event_rows(source, decoded, sidecar, events, samples, embeddings_SD, texts),
        texts=texts,
        features=_feature_rows(source, decoded, events, samples, tower, config) if tower else None,
    )


def samples_of(event: Event, sampled_index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions (into the sampled frames) that lie in `event`, at least one.

    An event shorter than the sampling interval may hold none: it takes the nearest sample.
    """
    inside = np.flatnonzero(
        (sampled_index >= event.first_frame) & (sampled_index < event.end_frame)
    )
    if len(inside):
        return inside
    middle = (event.first_frame + event.end_frame - 1) / 2
    return np.array([int(np.argmin(np.abs(sampled_index - middle)))])


def base_row(source: VideoSource, attempts: int, fingerprints: Fingerprints) -> dict[str, Any]:
    """Return the columns of `videos` that are known before the file is opened."""
    return {
        "video_id": source.video_id,
        "uri": source.uri,
        "size_bytes": source.size_bytes,
        "version": source.version,
        "folder": schemas.folder_of(source.uri),
        "warnings": [],
        "attempts": attempts,
        **fingerprints.columns(),
        "indexed_at": dt.datetime.now(dt.UTC),
    }


def failure_row(
    source: VideoSource,
    *,
    attempts: int,
    max_attempts: int,
    fingerprints: Fingerprints,
    kind: str,
    message: str,
    num_streams: int | None = None,
) -> pa.Table:
    """Return the `videos` row of a video that could not be indexed, with its reason.

    A video that kills or stalls its decoder `max_attempts` times is quarantined: no later run
    touches it unless told to. What may be our own fault, or the store's, never is.
    """
    quarantined = kind in QUARANTINED_KINDS and attempts >= max_attempts
    row = base_row(source, attempts, fingerprints) | {
        "status": schemas.QUARANTINED if quarantined else schemas.FAILED,
        "error_class": kind,
        "error_message": message[:2000],
        "num_streams": num_streams,
    }
    return pa.Table.from_pylist([row], schema=schemas.VIDEOS)


def _summary_columns(summary: DecodeSummary) -> dict[str, Any]:
    info = summary.info
    return {
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "rotation_deg": info.rotation_deg,
        "num_streams": info.num_streams,
        "fps": info.fps,
        "num_frames": summary.num_frames,
        "num_decode_errors": summary.num_errors,
        "start_s": summary.start_s,
        "duration_s": summary.end_s - summary.start_s,
        "sample_fps": summary.sample_fps,
        "decode_backend": summary.backend,
        "decode_reason": summary.backend_reason,
    }


def _sidecar_columns(sidecar: Sidecar) -> dict[str, Any]:
    return {"camera": sidecar.camera, "tags": list(sidecar.tags)}


def _event_id(source: VideoSource, event: Event) -> str:
    return schemas.make_event_id(source.video_id, 0, event.index)


def _text_rows(source: VideoSource, sidecar: Sidecar, events: Sequence[Event]) -> pa.Table:
    spans = [(_event_id(source, event), event.start_s, event.end_s) for event in events]
    rows = sidecar_rows(spans, source.video_id, sidecar)
    return pa.Table.from_pylist(rows, schema=schemas.TEXTS)


def _event_rows(
    source: VideoSource,
    decoded: DecodedVideo,
    sidecar: Sidecar,
    events: Sequence[Event],
    samples: Sequence[NDArray[np.int64]],
    embeddings_SD: NDArray[np.float32],
    texts: pa.Table,
) -> pa.Table:
    rows, text_of, video_start_s = [], joined_texts(texts), decoded.summary.start_s
    for event, positions in zip(events, samples, strict=True):
        mean_D = embeddings_SD[positions].mean(axis=0)
        span = (video_start_s, event.start_s, event.end_s)
        rows.append(
            {
                "event_id": _event_id(source, event),
                "video_id": source.video_id,
                "part": 0,
                "index": event.index,
                "start_s": event.start_s,
                "end_s": event.end_s,
                "video_start_s": video_start_s,
                "boundary_kind": event.kind,
                "boundary_score": event.score,
                "frame_times_s": decoded.times_s[decoded.sampled_index[positions]].tolist(),
                "embedding": mean_D / max(float(np.linalg.norm(mean_D)), 1e-12),
                "thumbnail": thumbnail(decoded.sampled_frames[positions[len(positions) // 2]]),
                "text": text_of.get(_event_id(source, event)),
                "folder": schemas.folder_of(source.uri),
                **_sidecar_columns(sidecar),
                **recorded_columns(sidecar.recorded_at, *span),
            }
        )
    return pa.Table.from_pylist(rows, schema=schemas.events_schema(embeddings_SD.shape[1]))


def _feature_rows(
    source: VideoSource,
    decoded: DecodedVideo,
    events: Sequence[Event],
    samples: Sequence[NDArray[np.int64]],
    tower: VisionTower,
    config: IndexConfig,
) -> pa.Table:
    import torch

    from marc_core.compress import compress_event
    from marc_core.feature_rows import features_row

    kept = [cap_frames(positions, config.student.max_frames) for positions in samples]
    times_s = [decoded.times_s[decoded.sampled_index[k]] for k in kept]
    encoded = tower.encode_events(
        [(decoded.sampled_frames[k], t) for k, t in zip(kept, times_s, strict=True)]
    )
    name = features_name(tower.fingerprint, config)
    with torch.inference_mode():
        rows = [
            features_row(
                _event_id(source, event),
                source.video_id,
                name,
                compress_event(features, config.compress),
            )
            for event, features in zip(events, encoded, strict=True)
        ]
    return pa.Table.from_pylist(rows, schema=schemas.FEATURES)


def cap_frames(positions: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most `most` of the positions (or times), evenly spread, first and last included."""
    if len(positions) <= most:
        return positions
    picked: NDArray[Any] = positions[np.linspace(0, len(positions) - 1, most).round().astype(int)]
    return picked


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
