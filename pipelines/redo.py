"""Features of indexed videos, computed anew without a new cut: one Ray Data chain.

    videos whose cuts and embeddings stay --> ReadStage --> FeatureStage --> Commits --> Writer
                                              CPU actors:   GPU or CPU:      features replaced,
                                              the frames    the vision       one commit for many
                                              of events     tower            videos

The frames are those that the events show, read at the times that the memory holds. A video that
cannot be read keeps its row and its features as they are; the run reports it, the next tries again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset

from marc_core.config import IndexConfig
from marc_core.memory import MemoryStore
from marc_core.redo import EventFrames, feature_rows, read_event_frames
from marc_core.types import VideoSource
from pipelines.parcels import handed_on
from pipelines.pools import ENCODER_CPUS, Pools
from pipelines.stages import INDEXED, WORK, recorded, to_ipc

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
    """Holds one decoding child process and the open memory, for the times of events."""

    def __init__(self, config: IndexConfig) -> None:
        from marc_core.video import IsolatedDecoder

        self.config = config
        self.decoder = IsolatedDecoder(config.video)
        self.store = MemoryStore.open(config.memory, cache_bytes=64 * 1024**2)

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of WORK rows to parcels of READ rows."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a WORK row to a READ row."""
        (row,) = batch.to_pylist()
        read, failure = recorded(lambda: self.read(VideoSource.from_json(row["source"])))
        return pa.Table.from_pylist([{**row, **(read or {}), "failure": failure}], schema=READ)

    def read(self, source: VideoSource) -> dict[str, Any]:
        """Return the events' ids, the times of their frames, and the frames."""
        from marc_core.video import local_copy

        columns = ["event_id", "video_id", "frame_times_s"]
        events = self.store.events_of(source.video_id, columns=columns).to_pylist()
        with local_copy(source, self.config.archive_options) as path:
            read = read_event_frames(
                path,
                events,
                decoder=self.decoder,
                max_frames=self.config.student.max_frames,
                stream=source.stream,
            )
        return {
            "event_ids": [event_id for event_id, _ in read.owners],
            "times_s": [times.tolist() for times in read.times_s],
            "frames": read.frames_SHWC.tobytes(),
            "frames_shape": list(read.frames_SHWC.shape),
        }


class FeatureStage:
    """Holds the student's vision tower."""

    def __init__(self, config: IndexConfig) -> None:
        import torch

        from marc_core.models.vision_tower import VisionTower

        if not torch.cuda.is_available():
            torch.set_num_threads(1)
        self.config = config
        self.tower = VisionTower(config.student)

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of READ rows to parcels of INDEXED rows that hold features alone."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a READ row to an INDEXED row."""
        (row,) = batch.to_pylist()
        failure, features = row["failure"], None
        if failure is None:
            features, failure = recorded(lambda: self.encode(row))
        if failure is not None:
            reason, uri = json.loads(failure), json.loads(row["source"])["uri"]
            logging.getLogger(__name__).warning("Features of %s stay: %s", uri, reason)
        cells = {
            "video_id": row["video_id"],
            "failed": features is None,
            "features": None if features is None else to_ipc(features),
        }
        return pa.Table.from_pylist([cells], schema=INDEXED)

    def encode(self, row: dict[str, Any]) -> pa.Table:
        """Return the FEATURES rows of a video's events."""
        frames = np.frombuffer(row["frames"], np.uint8)
        read = EventFrames(
            owners=[(event_id, row["video_id"]) for event_id in row["event_ids"]],
            times_s=[np.asarray(times) for times in row["times_s"]],
            frames_SHWC=frames.reshape(row["frames_shape"]),
        )
        return feature_rows(read, self.tower, self.config)


def redo_chain(
    blocks: Sequence[pa.Table],
    *,
    config: IndexConfig,
    pools: Pools,
    survive: Mapping[str, int],
) -> Dataset:
    """Return the lazy chain from blocks of WORK parcels to INDEXED parcels with features alone."""
    ahead = 1 if survive["max_task_retries"] else 2
    common: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", **survive}
    return (
        ray.data.from_blocks(list(blocks))
        .map_batches(
            ReadStage,
            fn_constructor_args=(config,),
            num_cpus=config.decode_cpus,  # below 1: leaves room for tower and writer
            compute=pools.decoders.strategy(len(blocks), ahead=ahead),
            **common,
        )
        .map_batches(
            FeatureStage,
            fn_constructor_args=(config,),
            num_cpus=ENCODER_CPUS,  # mostly waits: for frames, or for its GPU
            num_gpus=pools.encode_gpus,
            compute=pools.encoders.strategy(len(blocks), ahead=ahead),
            **common,
        )
    )
