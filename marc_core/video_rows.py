"""Rows of `videos`: what is known of a video before it is opened, of its container, of the files
beside it, and of what went wrong with it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core import schemas

if TYPE_CHECKING:
    from marc_core.fingerprints import Fingerprints
    from marc_core.text import Sidecar
    from marc_core.types import DecodeSummary, VideoInfo, VideoSource

QUARANTINED_KINDS = frozenset({"timeout", "decoder_crash"})
"""What stalls or kills a decoder: tried `max_attempts` times, then left alone."""
TRANSIENT_KINDS = QUARANTINED_KINDS | {"source", "worker_lost", "internal"}
"""Failures that a later attempt may not meet again, and that every run tries again; all others are
the file's own."""


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


def info_columns(info: VideoInfo) -> dict[str, Any]:
    """Return what the container says of its video stream."""
    return {
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "rotation_deg": info.rotation_deg,
        "num_streams": info.num_streams,
        "fps": info.fps,
    }


def summary_columns(summary: DecodeSummary) -> dict[str, Any]:
    """Return what a decode pass has found of a video."""
    return {
        **info_columns(summary.info),
        "num_frames": summary.num_frames,
        "num_decode_errors": summary.num_errors,
        "start_s": summary.start_s,
        "duration_s": summary.end_s - summary.start_s,
        "sample_fps": summary.sample_fps,
        "decode_backend": summary.backend,
        "decode_reason": summary.backend_reason,
    }


def with_own_word(sidecar: Sidecar, info: VideoInfo) -> Sidecar:
    """Return the sidecar of a video, synthetic where the video itself says so."""
    return replace(sidecar, synthetic=sidecar.synthetic or info.synthetic)


def sidecar_columns(sidecar: Sidecar) -> dict[str, Any]:
    """Return what files beside a video say of it, for its row."""
    return {
        "camera": sidecar.camera,
        "tags": list(sidecar.tags),
        "synthetic": sidecar.synthetic,
    }
