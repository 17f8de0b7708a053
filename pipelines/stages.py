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
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marc_core.config import IndexConfig
from marc_core.digest import content_digest
from marc_core.errors import SourceError, VideoError
from marc_core.fingerprints import Fingerprints
from marc_core.indexing import DecodedVideo, decode_video, encode_video
from marc_core.part_indexing import (
    PartWork,
    encode_part,
    failed_part,
    plan_rows,
)
from marc_core.types import Span, VideoSource
from marc_core.video.layout import part_seconds
from marc_core.video.parts import Layout, Part
from marc_core.video.wire import summary_from_fields
from marc_core.video_rows import failure_row
from pipelines.parcels import handed_on

if TYPE_CHECKING:
    from marc_core.in_order import InOrder
    from marc_core.part_decoding import SeenPart
    from marc_core.text import Sidecar

T = TypeVar("T")
WORK = pa.schema(
    [
        ("video_id", pa.string()),
        ("source", pa.string()),
        ("attempts", pa.int32()),
        ("part", pa.string()),
    ]
)
"""A video to do, or a part of one: VideoSource as JSON, the number of this attempt, and PartWork as
JSON or null."""

DECODED = pa.schema(
    [
        *WORK,
        ("failure", pa.string()),
        ("layout", pa.string()),
        ("summary", pa.string()),
        ("sidecar", pa.string()),
        ("content_digest", pa.string()),
        ("times_s", pa.large_binary()),
        ("shot_scores", pa.large_binary()),
        ("dark", pa.large_binary()),
        ("sampled_index", pa.large_binary()),
        ("frames", pa.large_binary()),
        ("frames_shape", pa.list_(pa.int64())),
        ("seen", pa.string()),
    ]
)
"""A decoded video or part, or the reason why not, or a recording's Layout, which is all that is
found out of one that is longer than a part. Arrays are raw little-endian buffers. seen: what else a
SeenPart holds, as JSON."""

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
        ("parts", pa.large_binary()),
    ]
)
"""A video's rows, by table, as Arrow IPC streams; all but `videos` null on failure. Of a recording
in parts first `videos` and `parts`, then for each part all but `videos`, and on failure `parts`
alone. Where features or embeddings alone are redone, all but theirs are null, and on failure all
but `failure`. Where texts alone are made, `texts` and `stages`, how each stage ended, are there."""


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
    """Holds one decoding child process and one shot detector; one thread.

    Of a recording in parts it holds the file until parts of another one come, and the pass over it
    where it cannot be sought: parts that come in order are decoded in one pass.
    """

    def __init__(self, config: IndexConfig) -> None:
        import torch

        from marc_core.events import ShotDetector
        from marc_core.video import IsolatedDecoder
        from marc_core.video.shared_copy import HeldFile

        torch.set_num_threads(1)
        self.config = config
        self.decoder = IsolatedDecoder(config.video)
        self.detector = ShotDetector(config.events)
        self.file = HeldFile()
        self.in_order: tuple[str, InOrder] | None = None

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
        """Fetch, decode and shot-detect one video or part, or lay out a long recording."""
        from marc_core.text import read_sidecar
        from marc_core.video import local_copy

        options = self.config.archive_options
        sidecar = read_sidecar(source, options, self.config.clock.zone)
        held = {**row, "sidecar": json.dumps(sidecar.to_json())}
        if row["part"] is not None:
            return _pack_seen(held, self.seen(source, PartWork.from_json(row["part"]).part))
        with local_copy(source, options) as path:
            part_s = part_seconds(self.config.video)
            layout = self.decoder.lay_out(path, part_s, self.config.events, stream=source.stream)
            if layout is not None:
                found = {"layout": layout.to_json(), "content_digest": content_digest(path)}
                return _one_row(DECODED, {**held, **found})
            decoded = decode_video(path, self.decoder, self.detector, stream=source.stream)
        return _pack_decoded(held, decoded)

    def seen(self, source: VideoSource, part: Part) -> SeenPart:
        """Decode and shot-detect a part of a recording."""
        from marc_core.part_decoding import decode_part

        path = self.file.path(source, self.config.archive_options)
        if part.in_order:
            return self.pass_over(source, path, part).part(part)
        return decode_part(path, part, self.decoder, self.detector, stream=source.stream)

    def pass_over(self, source: VideoSource, path: str, part: Part) -> InOrder:
        """Return the pass over a file, a new one where the part does not lie ahead."""
        from marc_core.in_order import InOrder

        if self.in_order is not None:
            video_id, running = self.in_order
            if video_id == source.video_id and running.reaches(part):
                return running
            running.close()
        started = InOrder(path, self.config.video, self.detector, stream=source.stream)
        self.in_order = source.video_id, started
        return started

    def child_pids(self) -> list[int]:
        """Return the processes that decode."""
        decoders = [self.decoder, *(self.in_order[1].decoders if self.in_order else ())]
        return [pid for decoder in decoders if (pid := decoder.child_pid) is not None]

    def close(self) -> None:
        """End what decodes, and let go of the file."""
        if self.in_order is not None:
            self.in_order[1].close()
        self.decoder.close()
        self.file.release()


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
        names = ["source", "attempts", "part", "failure", "sidecar", "layout", "content_digest"]
        (row,) = batch.select(names).to_pylist()
        source = VideoSource.from_json(row["source"])
        table, failure = None, row["failure"]
        if failure is None:
            work = self.encode if row["part"] is None else self.encode_part
            work = self.plan if row["layout"] is not None else work
            table, failure = recorded(lambda: work(batch, row, source))
        return table if table is not None else self.failed(row, source, failure)

    def plan(self, batch: pa.Table, row: dict[str, Any], source: VideoSource) -> pa.Table:
        """Pack the rows of a recording that is to be indexed in parts."""
        videos, parts = plan_rows(
            source,
            Layout.from_json(row["layout"]),
            _sidecar(row),
            row["content_digest"],
            self.fingerprints,
            row["attempts"],
            self.config.clock,
        )
        return _packed(source.video_id, videos=videos, parts=parts)

    def encode_part(self, batch: pa.Table, row: dict[str, Any], source: VideoSource) -> pa.Table:
        """Embed, segment and pack one part's rows."""
        made = encode_part(
            source,
            PartWork.from_json(row["part"]),
            _unpack_seen(batch),
            _sidecar(row),
            config=self.config,
            encoder=self.encoder,
            tower=self.tower,
            attempts=row["attempts"],
        )
        tables = {"parts": made.parts, "events": made.events, "texts": made.texts}
        return _packed(source.video_id, **tables, features=made.features)

    def encode(self, batch: pa.Table, row: dict[str, Any], source: VideoSource) -> pa.Table:
        """Embed, segment and pack one video's rows."""
        indexed = encode_video(
            source,
            _unpack_decoded(batch),
            _sidecar(row),
            config=self.config,
            encoder=self.encoder,
            tower=self.tower,
            attempts=row["attempts"],
        )
        return _packed(
            source.video_id,
            videos=indexed.videos,
            events=indexed.events,
            texts=indexed.texts,
            features=indexed.features,
        )

    def failed(self, row: dict[str, Any], source: VideoSource, failure: str) -> pa.Table:
        """Return the INDEXED row that records why a video or part failed."""
        if row["part"] is not None:
            parts = failed_part(
                source,
                PartWork.from_json(row["part"]),
                json.loads(failure),
                attempts=row["attempts"],
                max_attempts=self.config.max_attempts,
                fingerprints=self.fingerprints,
            )
            return _packed(source.video_id, failed=True, parts=parts)
        videos = failure_row(
            source,
            attempts=row["attempts"],
            fingerprints=self.fingerprints,
            max_attempts=self.config.max_attempts,
            **json.loads(failure),
        )
        return _packed(source.video_id, failed=True, videos=videos)


def _sidecar(row: dict[str, Any]) -> Sidecar:
    from marc_core.text import Sidecar

    return Sidecar.from_json(json.loads(row["sidecar"]))


def _packed(video_id: str, *, failed: bool = False, **tables: pa.Table | None) -> pa.Table:
    """Return the INDEXED row of these tables."""
    cells = {name: to_ipc(table) for name, table in tables.items() if table is not None}
    return _one_row(INDEXED, {"video_id": video_id, "failed": failed, **cells})


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


def _pack_seen(row: dict[str, Any], seen: SeenPart) -> pa.Table:
    rest = {"span": dataclasses.asdict(seen.span), "head": seen.head, "tail": seen.tail}
    return _pack_decoded({**row, "seen": json.dumps(rest)}, seen)


def _unpack_seen(batch: pa.Table) -> SeenPart:
    """Return the part of a DECODED row; its arrays are views of the row's memory."""
    from marc_core.part_decoding import SeenPart

    decoded, rest = _unpack_decoded(batch), json.loads(batch["seen"][0].as_py())
    arrays = ("times_s", "shot_scores", "dark", "sampled_index", "sampled_frames")
    return SeenPart(
        part=PartWork.from_json(batch["part"][0].as_py()).part,
        summary=decoded.summary,
        span=Span(**rest["span"]),
        head=rest["head"],
        tail=rest["tail"],
        **{name: getattr(decoded, name) for name in arrays},
    )


def _pack_decoded(row: dict[str, Any], decoded: DecodedVideo | SeenPart) -> pa.Table:
    values = {
        **row,
        "summary": json.dumps(dataclasses.asdict(decoded.summary)),
        "content_digest": getattr(decoded, "content_digest", None),
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
