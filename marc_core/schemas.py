"""Arrow schemas of the memory's tables, and the ids that make every write repeatable.

    videos    one row a content version of a source
    events    one row an event: where it is, how it looks, what is said in it
    texts     one row a piece of text of an event: what is said, written or captioned, and where
    features  one row an event and vision tower: what a student reads of it
    parts     one row a part of a long recording: how it ended; only where there are some

Primary keys are declared in field metadata: without them two writers that merge the same key double
the row silently. `docs/memory.md` explains every column.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import pyarrow as pa

from marc_core.filenames import path_of_file_uri, uri_of_path

PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}

INDEXED, FAILED, QUARANTINED = "indexed", "failed", "quarantined"
"""Values of `videos.status`. Quarantined: crashed or hung the decoder `max_attempts` times."""
PLANNED = "planned"
"""Value of `parts.status` besides those: it has not ended."""
PARTS_MISSING = "parts_missing"
"""`videos.error_class` of a recording whose parts have not all ended."""

TextKind = Literal["sidecar", "speech", "writing", "caption"]
"""Where a text comes from: a file beside the video, speech recognition, text seen in the picture,
a description by a model."""
Layout = Literal["groups", "nodes"]
"""How features are stored: temporal groups of grid_h x grid_w tokens, or nodes of one token each
in a hierarchy, with parent, place and height."""


def make_video_id(uri: str, size_bytes: int, version: str) -> str:
    """Return 20 hex digits that name one content version of one source."""
    text = f"{uri}\x00{size_bytes}\x00{version}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]


def make_event_id(video_id: str, part: int, index: int) -> str:
    """Return `<video_id>:<part>:<index>`; dense within a part, so that cutting a part again
    overwrites and never mixes. Ids of one video sort by time."""
    return f"{video_id}:{part:04d}:{index:05d}"


def make_part_id(video_id: str, part: int) -> str:
    """Return the key of a part; the ids of its events begin so."""
    return f"{video_id}:{part:04d}"


def make_feature_id(event_id: str, features_fingerprint: str, piece: int = 0) -> str:
    """Return the key of an event's features under one vision tower and one compression.

    piece: of features that are stored in several rows.
    """
    key = f"{event_id}@{features_fingerprint}"
    return f"{key}+{piece}" if piece else key


def make_text_id(event_id: str, kind: TextKind, number: int) -> str:
    """Return the key of an event's `number`-th text of a kind, from 0."""
    return f"{event_id}:{kind}:{number:03d}"


def folder_of(uri: str) -> str:
    """Return the uri without its last component; empty for a name without a folder.

    Written as `marc_core.filenames` writes it, so that a plain folder is one folder, whether the
    names in it are plain or percent-encoded.
    """
    folder = uri.rpartition("/")[0]
    if folder.startswith("file://"):
        return uri_of_path(path_of_file_uri(folder.removeprefix("file://")))
    return folder


def _key(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata=PRIMARY_KEY)


def _needed(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_TIME = pa.timestamp("us", tz="UTC")
_STRINGS = pa.list_(pa.string())

ADDED: dict[str, tuple[pa.Field, ...]] = {
    "videos": (
        pa.field("speech_fingerprint", pa.string()),
        pa.field("writing_fingerprint", pa.string()),
        pa.field("captions_fingerprint", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("synthetic", pa.bool_()),
        pa.field("recorded_source", pa.string()),
        pa.field("clock_tags", pa.string()),
        pa.field("clock_fingerprint", pa.string()),
    ),
    "events": (
        pa.field("duplicate_of", pa.string()),
        pa.field("text_kinds", _STRINGS),
        pa.field("synthetic", pa.bool_()),
    ),
}
"""Columns that came after the format's first memories, by table: nullable, and last in their
schema. A memory without them is read as if they were null, and gets them at the next write."""

VIDEOS = pa.schema(
    [
        _key("video_id"),
        _needed("uri", pa.string()),
        _needed("size_bytes", pa.int64()),
        _needed("version", pa.string()),
        ("content_digest", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation_deg", pa.int32()),
        ("num_streams", pa.int32()),
        ("fps", pa.float64()),
        ("num_frames", pa.int64()),
        ("num_decode_errors", pa.int64()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_fps", pa.float64()),
        ("decode_backend", pa.string()),
        ("decode_reason", pa.string()),
        ("recorded_at", _TIME),
        ("camera", pa.string()),
        _needed("folder", pa.string()),
        ("tags", _STRINGS),
        _needed("status", pa.string()),
        ("error_class", pa.string()),
        ("error_message", pa.string()),
        ("warnings", _STRINGS),
        _needed("attempts", pa.int32()),
        ("num_events", pa.int32()),
        ("num_parts", pa.int32()),
        _needed("cuts_fingerprint", pa.string()),
        _needed("embeddings_fingerprint", pa.string()),
        ("features_fingerprint", pa.string()),
        ("texts_fingerprint", pa.string()),
        _needed("indexed_at", _TIME),
        *ADDED["videos"],
    ]
)


def events_schema(embedding_dim: int) -> pa.Schema:
    """Return the `events` schema; camera, folder and tags repeat the video's for filters."""
    return pa.schema(
        [
            _key("event_id"),
            _needed("video_id", pa.string()),
            _needed("part", pa.int32()),
            _needed("index", pa.int32()),
            _needed("start_s", pa.float64()),
            _needed("end_s", pa.float64()),
            _needed("video_start_s", pa.float64()),
            ("recorded_from", _TIME),
            ("recorded_to", _TIME),
            ("boundary_kind", pa.string()),
            ("boundary_score", pa.float32()),
            ("frame_times_s", pa.list_(pa.float64())),
            _needed("embedding", pa.list_(pa.float32(), embedding_dim)),
            ("thumbnail", pa.binary()),
            ("text", pa.string()),
            ("camera", pa.string()),
            _needed("folder", pa.string()),
            ("tags", _STRINGS),
            *ADDED["events"],
        ]
    )


def embeddings_schema(embedding_dim: int) -> pa.Schema:
    """Return the schema of vectors that wait until all events have one of their encoder.

    fingerprint: the encoder's. frames_digest: of the times of the frames that were embedded.
    """
    return pa.schema(
        [
            _key("event_id"),
            _needed("video_id", pa.string()),
            _needed("fingerprint", pa.string()),
            _needed("frames_digest", pa.string()),
            _needed("embedding", pa.list_(pa.float32(), embedding_dim)),
        ]
    )


TEXTS = pa.schema(
    [
        _key("text_id"),
        _needed("event_id", pa.string()),
        _needed("video_id", pa.string()),
        _needed("kind", pa.string()),
        _needed("start_s", pa.float64()),
        _needed("end_s", pa.float64()),
        _needed("text", pa.string()),
        ("confidence", pa.float32()),
        ("language", pa.string()),
        _needed("fingerprint", pa.string()),
    ]
)

_FLOATS = pa.list_(pa.float32())
FEATURES = pa.schema(
    [
        _key("feature_id"),
        _needed("event_id", pa.string()),
        _needed("video_id", pa.string()),
        _needed("fingerprint", pa.string()),
        _needed("layout", pa.string()),
        _needed("layout_version", pa.int32()),
        _needed("num_rows", pa.int32()),
        _needed("num_source_groups", pa.int32()),
        _needed("grid_h", pa.int32()),
        _needed("grid_w", pa.int32()),
        _needed("dim", pa.int32()),
        _needed("num_layers", pa.int32()),
        _needed("dtype", pa.string()),
        _needed("times_s", _FLOATS),
        ("counts", _FLOATS),
        ("parents", pa.list_(pa.int32())),
        ("positions", _FLOATS),
        ("heights", _FLOATS),
        _needed("data", pa.large_binary()),
    ]
)
"""`data`: (1 + L, rows, tokens a row, D) row-major little-endian `dtype`; layer 0 the features,
then deepstack (`num_layers` = 1 + L). A row is a temporal group of grid_h * grid_w tokens (layout
"groups"), or a node of one token ("nodes", in the order in which cuts open them; the rows of an
event are numbered on from piece to piece). `counts`: source groups, or tokens, behind each row,
null where each is one. `parents` (-1: none), `positions` (3 a row: time, height, width) and
`heights` are of nodes only."""

PARTS = pa.schema(
    [
        _key("part_id"),
        _needed("video_id", pa.string()),
        _needed("part", pa.int32()),
        _needed("plan", pa.string()),
        ("from_s", pa.float64()),
        ("to_s", pa.float64()),
        _needed("status", pa.string()),
        _needed("attempts", pa.int32()),
        ("error_class", pa.string()),
        ("error_message", pa.string()),
        ("num_events", pa.int32()),
        ("num_frames", pa.int64()),
        ("num_decode_errors", pa.int64()),
        ("warnings", _STRINGS),
        ("head", pa.string()),
        ("tail", pa.string()),
        _needed("cuts_fingerprint", pa.string()),
        _needed("embeddings_fingerprint", pa.string()),
        ("features_fingerprint", pa.string()),
        _needed("updated_at", _TIME),
    ]
)
"""One row a part of a long recording. `plan`: part_indexing.PartWork as JSON. `from_s`, `to_s`:
where it lies, from the video's 0:00. `head`, `tail`: digests of the frames around its seams.
Fingerprints: of what it was planned for or made with."""
