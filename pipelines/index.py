"""An archive's way into the memory: one Ray Data chain.

    list archive - what the memory already holds = todo
      todo --> DecodeStage --> EncodeStage --> WriteStage --> LanceDB
               CPU actors,     GPU actors,     one actor (more
               one thread      or one CPU      if it falls behind),
               each            actor           one commit a few videos

Blocks stream: a decoded video waits in the object store only until an encoder takes it, and Ray
Data's back-pressure keeps decoders from running ahead. Every video of `todo` ends as a row of
`videos`: indexed, failed with a reason, or quarantined; a rerun does what is missing or changed.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from marc_core import schemas
from marc_core.config import IndexConfig, config_to_yaml
from marc_core.embed import encoder_facts
from marc_core.fingerprints import Fingerprints, fingerprints_of
from marc_core.memory import MemoryStore
from marc_core.models.vision_tower import vision_fingerprint
from marc_core.types import VideoSource
from marc_core.video import list_videos, require_decord
from pipelines.plan import plan_work, record_lost, rows_of, without_outcome, work_row
from pipelines.report import IndexReport, make_report
from pipelines.retry import in_rounds
from pipelines.stages import WRITER_ENV, DecodeStage, EncodeStage, WriteStage
from pipelines.watch import watching

MAX_WRITERS = 4
"""Writers of one job (our choice): commits to a table take turns, so more would only wait."""
Progress = Callable[[int, int, int], None]
"""Called with (videos done, videos failed, videos to do)."""


def index_archive(config: IndexConfig, progress: Progress = lambda *_: None) -> IndexReport:
    """Index every video of `config.archive` that the memory does not hold as configured.

    Needs an initialised Ray. Raises SourceError (archive), MemoryStoreError, ModelLoadError; what
    is wrong with a single video becomes its row instead.
    """
    started = time.monotonic()
    if config.video.backend == "decord":
        require_decord()
    listing = list_videos(config.archive, config.patterns, config.archive_options)
    sources = list(listing)
    encoder = encoder_facts(config.encoder)
    tower = vision_fingerprint(config.student) if config.memory.store_features else None
    store = MemoryStore.open(
        config.memory,
        embedding_dim=encoder.dim,
        encoder_fingerprint=encoder.fingerprint,
        create=True,
    )
    store.record_run(config_to_yaml(without_credentials(config)))
    fingerprints = fingerprints_of(config, encoder.fingerprint, tower)
    todo = plan_work(sources, store.video_states().to_pylist(), fingerprints, config)
    if todo:
        with _watch(store, todo, progress), warnings.catch_warnings():
            # Ray 2.60 has no other way to bound an actor task's retries; pinned below 2.64.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            lost = in_rounds(
                todo,
                lambda left: chain(left, config, encoder.dim, fingerprints).materialize(),
                lambda left: without_outcome(store, left, fingerprints),
            )
        record_lost(store, lost, fingerprints, config)
        store.optimize()
    found, tried = [s.video_id for s in sources], [s.video_id for s, _ in todo]
    return make_report(store, found, tried, time.monotonic() - started, listing)


def without_credentials(config: IndexConfig) -> IndexConfig:
    """Return `config` without object store options, which may hold keys, for the record."""
    return replace(config, archive_options={}, memory=replace(config.memory, storage_options={}))


def chain(
    todo: Sequence[tuple[VideoSource, int]],
    config: IndexConfig,
    embedding_dim: int,
    fingerprints: Fingerprints,
) -> Dataset:
    """Return the lazy chain from work rows to WRITTEN rows."""
    DataContext.get_current().max_errored_blocks = -1  # a lost block becomes worker_lost rows
    decoders, encoders, encode_gpus = pool_sizes(config, len(todo))
    survive = {"max_restarts": -1, "max_task_retries": config.max_attempts}
    return (
        ray.data.from_arrow([work_row(source, attempts) for source, attempts in todo])
        .map_batches(
            DecodeStage,
            fn_constructor_args=(config,),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=config.decode_cpus,  # below 1: leaves room for encoder and writer
            compute=ActorPoolStrategy(min_size=decoders, max_size=decoders),
            **survive,
        )
        .map_batches(
            EncodeStage,
            fn_constructor_args=(config, fingerprints),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=0.1,  # mostly waits: for frames, or for its GPU
            num_gpus=encode_gpus,
            compute=ActorPoolStrategy(size=encoders, max_tasks_in_flight_per_actor=2),
            **survive,
        )
        .map_batches(
            WriteStage,
            fn_constructor_args=(config, embedding_dim),
            batch_size=config.write_videos,
            batch_format="pyarrow",
            num_cpus=0.1,
            runtime_env={"env_vars": WRITER_ENV},
            compute=ActorPoolStrategy(min_size=1, max_size=MAX_WRITERS),
            **survive,
        )
    )


def pool_sizes(config: IndexConfig, num_videos: int) -> tuple[int, int, float]:
    """Return (decode actors, encode actors, GPUs of an encode actor) for this cluster."""
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    encode_gpus = config.encode_gpus if gpus else 0.0
    encoders = config.encode_workers or (max(1, int(gpus / encode_gpus)) if encode_gpus else 1)
    room = (cpus - 0.1 * encoders - 0.1) / config.decode_cpus
    decoders = config.decode_workers or max(1, math.floor(room + 1e-9))
    return min(decoders, num_videos), min(encoders, num_videos), encode_gpus


def _watch(
    store: MemoryStore, todo: Sequence[tuple[VideoSource, int]], progress: Progress
) -> AbstractContextManager[None]:
    """Report progress from the memory itself, which is true whoever writes to it."""
    before = rows_of(store, todo)

    def look() -> None:
        rows = rows_of(store, todo)
        new = [r for key, r in rows.items() if before.get(key) != r]
        progress(len(new), sum(r["status"] != schemas.INDEXED for r in new), len(todo))

    return watching(look)
