"""The stages of the indexing chain: what a Ray worker holds, and how rows look between stages.

Work is done by `marc_core.indexing`. A row is one video; rows travel in parcels, and a stage hands
each on when it is done, not when its block is (`pipelines.parcels`). A stage never raises for a
video: `recorded` is the one place of the project that catches everything, and it turns the
exception into a failure that travels on as a row.
"""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marc_core.config import IndexConfig
from marc_core.errors import SourceError, VideoError
from marc_core.fingerprints import Fingerprints
from marc_core.indexing import DecodedVideo, decode_video, encode_video, failure_row
from marc_core.types import VideoSource
from marc_core.video.wire import summary_from_fields
from pipelines.parcels import handed_on

T = TypeVar("T")
WORK = pa.schema([("video_id", pa.string()), ("source", pa.string()), ("attempts", pa.int32())])
"""A video to do: VideoSource as JSON, and the number of this attempt."""

DECODED = pa.schema(
    [
        *WORK,
        ("failure", pa.string()),
        ("summary", pa.string()),
        ("sidecar", pa.string()),
        ("content_digest", pa.string()),
        ("times_s", pa.large_binary()),
        ("shot_scores", pa.large_binary()),
        ("dark", pa.large_binary()),
        ("sampled_index", pa.large_binary()),
        ("frames", pa.large_binary()),
        ("frames_shape", pa.list_(pa.int64())),
    ]
)
"""A decoded video, or the reason why not. Arrays are raw little-endian buffers."""

INDEXED = pa.schema(
    [
        ("video_id", pa.string()),
        ("failed", pa.bool_()),
        ("videos", pa.large_binary()),
        ("events", pa.large_binary()),
        ("texts", pa.large_binary()),
        ("features", pa.large_binary()),
        ("embeddings", pa.large_binary()),
        ("stages", pa.large_binary()),
        ("failure", pa.string()),
    ]
)
"""A video's rows, by table, as Arrow IPC streams; all but `videos` null on failure. Where features
or embeddings alone are redone, all but theirs are null, and on failure all but `failure`. Where
texts alone are made, `texts` and `stages`, how each stage ended, are there."""


def recorded(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return (result, None), or (None, failure as JSON): nothing a video does stops the job."""
    try:
        return work(), None
    except VideoError as error:
        streams = error.num_streams
        failure = {"kind": error.kind, "message": str(error), "num_streams": streams}
    except SourceError as error:
        failure = {"kind": "source", "message": str(error)}
    except Exception as error:  # noqa: BLE001 - the designated place, see the module docstring
        traceback.print_exc()
        failure = {"kind": "internal", "message": f"{type(error).__name__}: {error}"}
    return None, json.dumps(failure)


class DecodeStage:
    """Holds one decoding child process and one shot detector; one thread."""

    def __init__(self, config: IndexConfig) -> None:
        import torch

        from marc_core.events import ShotDetector
        from marc_core.video import IsolatedDecoder

        torch.set_num_threads(1)
        self.config = config
        self.decoder = IsolatedDecoder(config.video)
        self.detector = ShotDetector(config.events)

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of WORK rows to parcels of DECODED rows."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a WORK row to a DECODED row."""
        (row,) = batch.to_pylist()
        source = VideoSource.from_json(row["source"])
        table, failure = recorded(lambda: self.decode(row, source))
        return table if table is not None else _one_row(DECODED, {**row, "failure": failure})

    def decode(self, row: dict[str, Any], source: VideoSource) -> pa.Table:
        """Fetch, decode and shot-detect one video."""
        from marc_core.text import read_sidecar
        from marc_core.video import local_copy

        options = self.config.archive_options
        sidecar = read_sidecar(source, options)
        with local_copy(source, options) as path:
            decoded = decode_video(path, self.decoder, self.detector, stream=source.stream)
        return _pack_decoded(row, decoded, json.dumps(sidecar.to_json()))


class EncodeStage:
    """Holds the dual encoder and, where features are stored, the student's vision tower."""

    def __init__(self, config: IndexConfig, fingerprints: Fingerprints) -> None:
        import torch

        from marc_core.embed import load_encoder
        from marc_core.models.vision_tower import VisionTower

        if not torch.cuda.is_available():
            torch.set_num_threads(1)
        self.config = config
        self.fingerprints = fingerprints
        self.encoder = load_encoder(config.encoder)
        self.tower = VisionTower(config.student) if config.memory.store_features else None

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of DECODED rows to parcels of INDEXED rows."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a DECODED row to an INDEXED row."""
        (row,) = batch.select(["source", "attempts", "failure", "sidecar"]).to_pylist()
        source = VideoSource.from_json(row["source"])
        table, failure = None, row["failure"]
        if failure is None:
            table, failure = recorded(lambda: self.encode(batch, row, source))
        return table if table is not None else self.failed(row, source, failure)

    def encode(self, batch: pa.Table, row: dict[str, Any], source: VideoSource) -> pa.Table:
        """Embed, segment and pack one video's rows."""
        from marc_core.text import Sidecar

        indexed = encode_video(
            source,
            _unpack_decoded(batch),
            Sidecar.from_json(json.loads(row["sidecar"])),
            config=self.config,
            encoder=self.encoder,
            tower=self.tower,
            attempts=row["attempts"],
        )
        return _one_row(
            INDEXED,
            {
                "video_id": source.video_id,
                "failed": False,
                "videos": to_ipc(indexed.videos),
                "events": to_ipc(indexed.events),
                "texts": to_ipc(indexed.texts),
                "features": None if indexed.features is None else to_ipc(indexed.features),
            },
        )

    def failed(self, row: dict[str, Any], source: VideoSource, failure: str) -> pa.Table:
        """Return the INDEXED row that records why a video failed."""
        videos = failure_row(
            source,
            attempts=row["attempts"],
            fingerprints=self.fingerprints,
            max_attempts=self.config.max_attempts,
            **json.loads(failure),
        )
        return _one_row(
            INDEXED, {"video_id": source.video_id, "failed": True, "videos": to_ipc(videos)}
        )


def to_ipc(table: pa.Table) -> bytes:
    """Return `table` as one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_ipc(data: bytes) -> pa.Table:
    """Return the table of an Arrow IPC stream."""
    return pa.ipc.open_stream(data).read_all()


def _one_row(schema: pa.Schema, row: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([row], schema=schema)


def _pack_decoded(row: dict[str, Any], decoded: DecodedVideo, sidecar: str) -> pa.Table:
    values = {
        **row,
        "summary": json.dumps(dataclasses.asdict(decoded.summary)),
        "sidecar": sidecar,
        "content_digest": decoded.content_digest,
        "frames_shape": list(decoded.sampled_frames.shape),
    }
    arrays = {
        "times_s": decoded.times_s,
        "shot_scores": decoded.shot_scores,
        "dark": decoded.dark,
        "sampled_index": decoded.sampled_index,
        "frames": decoded.sampled_frames,
    }
    columns = [
        cell(arrays[field.name])
        if field.name in arrays
        else pa.array([values.get(field.name)], field.type)
        for field in DECODED
    ]
    return pa.Table.from_arrays(columns, schema=DECODED)


def _unpack_decoded(batch: pa.Table) -> DecodedVideo:
    """Return the video of a DECODED row; its arrays are views of the row's memory."""
    summary = json.loads(batch["summary"][0].as_py())
    frames = view(batch["frames"], np.uint8).reshape(batch["frames_shape"][0].as_py())
    return DecodedVideo(
        summary=summary_from_fields(summary),
        content_digest=batch["content_digest"][0].as_py(),
        times_s=view(batch["times_s"], np.float64),
        shot_scores=view(batch["shot_scores"], np.float32),
        dark=view(batch["dark"], np.bool_),
        sampled_index=view(batch["sampled_index"], np.int64),
        sampled_frames=frames,
    )


def cell(array: NDArray[Any]) -> pa.Array:
    """Return a column of one cell, `array`'s bytes, not copied: an hour of frames is 1 GB."""
    data = np.ascontiguousarray(array)
    buffers = [None, pa.py_buffer(np.array([0, data.nbytes])), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), 1, buffers)


def view(column: pa.ChunkedArray, dtype: type) -> NDArray[Any]:
    """Return the first cell as an array; `column[0]` would be a copy of it."""
    chunk = next(c for c in column.chunks if len(c))
    _, offsets, data = chunk.buffers()
    start, end = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + 2]
    count = (end - start) // np.dtype(dtype).itemsize
    return np.frombuffer(data, dtype, count=count, offset=start)
