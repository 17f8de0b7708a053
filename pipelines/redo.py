"""What a model makes of indexed events, made anew without a new cut: one Ray Data chain.

    videos whose cuts stay --> ReadStage --> FeatureStage,  --> Commits --> Writer
                               CPU actors:   EmbeddingStage:                features replaced,
                               the frames    GPU or CPU, the                embeddings staged: one
                               of events     tower or encoder               commit for many videos

The frames are those that the events show, read at the times that the memory holds. A video that
cannot be read keeps what it has; the run says which and why, the next tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Dataset

from marc_core.config import IndexConfig
from marc_core.memory import MemoryStore
from marc_core.redo import EventFrames, embedding_rows, feature_rows, read_event_frames
from marc_core.types import VideoSource
from pipelines.parcels import handed_on
from pipelines.plan import LOST
from pipelines.pools import ENCODER_CPUS, Pools
from pipelines.retry import in_rounds
from pipelines.stages import INDEXED, WORK, cell, recorded, to_ipc, view

READ = pa.schema(
    [
        *WORK,
        ("failure", pa.string()),
        ("event_ids", pa.list_(pa.string())),
        ("times_s", pa.list_(pa.list_(pa.float64()))),
        ("frames", pa.large_binary()),
        ("frames_shape", pa.list_(pa.int64())),
    ]
)
"""A video's events and their frames, one after the other, or the reason why not."""


class ReadStage:
    """Holds one decoding child process and the open memory, for the times of events.

    max_frames: frames of an event that are read at most; None: all.
    """

    def __init__(self, config: IndexConfig, max_frames: int | None) -> None:
        from marc_core.video import IsolatedDecoder

        self.config, self.max_frames = config, max_frames
        self.decoder = IsolatedDecoder(config.video)
        self.store = MemoryStore.open(config.memory, cache_bytes=64 * 1024**2)

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of WORK rows to parcels of READ rows."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a WORK row to a READ row."""
        (row,) = batch.to_pylist()
        read, failure = recorded(lambda: self.read(VideoSource.from_json(row["source"])))
        if read is None:
            return pa.Table.from_pylist([{**row, "failure": failure}], schema=READ)
        return _pack(row, read)

    def read(self, source: VideoSource) -> EventFrames:
        """Return the frames of a video's events."""
        from marc_core.video import local_copy
        from marc_core.video.clock import repaired_by

        row = self.store.get_video(source.video_id)
        columns = ["event_id", "video_id", "frame_times_s"]
        events = self.store.events_of(source.video_id, columns=columns).to_pylist()
        with local_copy(source, self.config.archive_options) as path:
            return read_event_frames(
                path,
                events,
                decoder=self.decoder,
                max_frames=self.max_frames,
                stream=source.stream,
                repaired=None if row is None else repaired_by(row["warnings"] or ()),
            )


class _ModelStage:
    """Holds a model, and maps the frames of events to rows of the table `makes`."""

    makes: str

    def __init__(self, config: IndexConfig) -> None:
        import torch

        if not torch.cuda.is_available():
            torch.set_num_threads(1)
        self.config = config

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of READ rows to parcels of INDEXED rows that hold `makes` alone."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a READ row to an INDEXED row."""
        (row,) = batch.select(["video_id", "failure"]).to_pylist()
        failure, made = row["failure"], None
        if failure is None:
            made, failure = recorded(lambda: self.make(_unpack(batch)))
        cells = {
            "video_id": row["video_id"],
            "failed": made is None,
            "failure": failure,
            self.makes: None if made is None else to_ipc(made),
        }
        return pa.Table.from_pylist([cells], schema=INDEXED)

    def make(self, read: EventFrames) -> pa.Table:
        """Return the rows of a video's events."""
        raise NotImplementedError


class FeatureStage(_ModelStage):
    """Holds the student's vision tower."""

    makes = "features"

    def __init__(self, config: IndexConfig) -> None:
        from marc_core.models.vision_tower import VisionTower

        super().__init__(config)
        self.tower = VisionTower(config.student)

    def make(self, read: EventFrames) -> pa.Table:
        """Return FEATURES rows."""
        return feature_rows(read, self.tower, self.config)


class EmbeddingStage(_ModelStage):
    """Holds the dual encoder that the memory is to have."""

    makes = "embeddings"

    def __init__(self, config: IndexConfig) -> None:
        from marc_core.embed import load_encoder

        super().__init__(config)
        self.encoder = load_encoder(config.encoder)

    def make(self, read: EventFrames) -> pa.Table:
        """Return rows to be staged."""
        return embedding_rows(read, self.encoder)


def _pack(row: Mapping[str, Any], read: EventFrames) -> pa.Table:
    values = {
        **row,
        "event_ids": [event_id for event_id, _ in read.owners],
        "times_s": [times.tolist() for times in read.times_s],
        "frames_shape": list(read.frames_SHWC.shape),
    }
    columns = [
        cell(read.frames_SHWC)
        if field.name == "frames"
        else pa.array([values.get(field.name)], field.type)
        for field in READ
    ]
    return pa.Table.from_arrays(columns, schema=READ)


def _unpack(batch: pa.Table) -> EventFrames:
    """Return the frames of a READ row; they are views of the row's memory."""
    (row,) = batch.select(["video_id", "event_ids", "times_s", "frames_shape"]).to_pylist()
    return EventFrames(
        owners=[(event_id, row["video_id"]) for event_id in row["event_ids"]],
        times_s=[np.asarray(times) for times in row["times_s"]],
        frames_SHWC=view(batch["frames"], np.uint8).reshape(row["frames_shape"]),
    )


def redo_in_rounds(
    work: pa.Table,
    *,
    run: Callable[..., Mapping[str, str]],
    stage: type[FeatureStage] | type[EmbeddingStage],
    config: IndexConfig,
    without_outcome: Callable[[pa.Table], pa.Table],
) -> dict[str, str]:
    """Redo what `stage` makes of these videos; return why some keep what they have.

    The reasons are by address. without_outcome: returns the rows for which nothing was redone yet.
    """
    reasons: dict[str, str] = {}

    def run_once(left: pa.Table, turn: int) -> None:
        reasons.update(run(left, turn, make=partial(redo_chain, stage=stage, config=config)))

    def unsettled(left: pa.Table) -> pa.Table:
        rest = without_outcome(left)
        known = pa.array(list(reasons), pa.string())
        return rest.filter(pc.invert(pc.is_in(rest["video_id"], known)))

    lost = in_rounds(work, run_once, unsettled)
    reasons |= dict.fromkeys(lost["video_id"].to_pylist(), LOST)
    ours = work.filter(pc.is_in(work["video_id"], pa.array(list(reasons), pa.string())))
    sources = [VideoSource.from_json(source.as_py()) for source in ours["source"]]
    return {source.uri: reasons[source.video_id] for source in sources}


def redo_chain(
    blocks: Sequence[pa.Table],
    *,
    stage: type[FeatureStage] | type[EmbeddingStage],
    config: IndexConfig,
    pools: Pools,
    survive: Mapping[str, int],
) -> Dataset:
    """Return the lazy chain from blocks of WORK parcels to INDEXED parcels with what `stage` makes
    alone."""
    ahead = 1 if survive["max_task_retries"] else 2
    common: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", **survive}
    max_frames = config.student.max_frames if stage is FeatureStage else None
    return (
        ray.data.from_blocks(list(blocks))
        .map_batches(
            ReadStage,
            fn_constructor_args=(config, max_frames),
            num_cpus=config.decode_cpus,  # below 1: leaves room for the model and the writer
            compute=pools.decoders.strategy(len(blocks), ahead=ahead),
            **common,
        )
        .map_batches(
            stage,
            fn_constructor_args=(config,),
            num_cpus=ENCODER_CPUS,  # mostly waits: for frames, or for its GPU
            num_gpus=pools.encode_gpus,
            compute=pools.encoders.strategy(len(blocks), ahead=ahead),
            **common,
        )
    )
