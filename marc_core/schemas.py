"""Arrow schemas of the memory's tables, and the ids that make every write repeatable.

`videos` has one row a source, `events` one row an event, `features` one row an event and student
model. Primary keys are declared in field metadata: without them two writers that merge the same
key double the row silently.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}

INDEXED, FAILED, QUARANTINED = "indexed", "failed", "quarantined"
"""Values of `videos.status`. Quarantined: crashed or hung the decoder `max_attempts` times."""


def make_video_id(uri: str, size_bytes: int, version: str) -> str:
    """Return 20 hex digits that name one content version of one source."""
    text = f"{uri}\x00{size_bytes}\x00{version}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def make_event_id(video_id: str, index: int) -> str:
    """Return `<video_id>:<index>`; dense, so that re-segmentation overwrites and never mixes."""
    return f"{video_id}:{index:05d}"


def make_feature_id(event_id: str, model_fingerprint: str) -> str:
    """Return the key of an event's features under one student and one compression."""
    return f"{event_id}@{model_fingerprint}"


def _key(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata=PRIMARY_KEY)


VIDEOS = pa.schema(
    [
        _key("video_id"),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation_deg", pa.int32()),
        ("fps", pa.float64()),
        ("num_frames", pa.int64()),
        ("num_decode_errors", pa.int64()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_fps", pa.float64()),
        ("decode_backend", pa.string()),
        ("decode_reason", pa.string()),
        ("recorded_at", pa.timestamp("us", tz="UTC")),
        ("camera", pa.string()),
        ("tags", pa.list_(pa.string())),
        pa.field("status", pa.string(), nullable=False),
        ("error_class", pa.string()),
        ("error_message", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        ("num_events", pa.int32()),
        pa.field("config_fingerprint", pa.string(), nullable=False),
        pa.field("indexed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


def events_schema(embedding_dim: int) -> pa.Schema:
    """Return the `events` schema; camera, tags and recorded_at repeat the video's for filters."""
    return pa.schema(
        [
            _key("event_id"),
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("index", pa.int32(), nullable=False),
            pa.field("start_s", pa.float64(), nullable=False),
            pa.field("end_s", pa.float64(), nullable=False),
            ("boundary_kind", pa.string()),
            ("boundary_score", pa.float32()),
            ("frame_times_s", pa.list_(pa.float64())),
            pa.field("embedding", pa.list_(pa.float32(), embedding_dim), nullable=False),
            ("thumbnail", pa.binary()),
            ("text", pa.string()),
            ("camera", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("recorded_at", pa.timestamp("us", tz="UTC")),
        ]
    )


FEATURES = pa.schema(
    [
        _key("feature_id"),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("model_fingerprint", pa.string(), nullable=False),
        pa.field("num_groups", pa.int32(), nullable=False),
        pa.field("num_source_groups", pa.int32(), nullable=False),
        pa.field("grid_h", pa.int32(), nullable=False),
        pa.field("grid_w", pa.int32(), nullable=False),
        pa.field("dim", pa.int32(), nullable=False),
        pa.field("num_layers", pa.int32(), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("group_times_s", pa.list_(pa.float32()), nullable=False),
        pa.field("group_counts", pa.list_(pa.float32())),
        pa.field("data", pa.large_binary(), nullable=False),
    ]
)
"""`data`: (1 + L, T, P, D) row-major little-endian `dtype`; layer 0 the features, then deepstack
(`num_layers` = 1 + L). `group_counts`: source groups behind each group, null where each is one."""
