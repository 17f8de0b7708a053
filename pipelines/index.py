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

import json
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from marc_core import schemas
from marc_core.config import IndexConfig, config_to_yaml
from marc_core.embed import encoder_facts
from marc_core.indexing import TRANSIENT_KINDS, failure_row, index_fingerprint
from marc_core.memory import MemoryStore
from marc_core.models import student_fingerprint
from marc_core.types import VideoSource
from marc_core.video import list_videos
from pipelines.rounds import in_rounds
from pipelines.stages import WORK, WRITER_ENV, DecodeStage, EncodeStage, WriteStage
from pipelines.watch import watching

MAX_WRITERS = 4
"""Writers of one job (our choice): commits to a table take turns, so more would only wait."""
Progress = Callable[[int, int, int], None]
"""Called with (videos done, videos failed, videos to do)."""


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What an indexing run did. `video_hours` counts the videos indexed by this run."""

    found: int
    skipped: int
    indexed: int
    failed: int
    quarantined: int
    failures: dict[str, int] = field(default_factory=dict)
    events: int = 0
    video_hours: float = 0.0
    wall_s: float = 0.0
    tokens_stored: int = 0

    @property
    def hours_per_hour(self) -> float:
        """Hours of video indexed per hour of wall-clock time."""
        return self.video_hours * 3600 / self.wall_s if self.wall_s else 0.0

    @property
    def failed_fraction(self) -> float:
        """Share of the videos tried by this run that did not end as indexed."""
        tried = self.indexed + self.failed + self.quarantined
        return (self.failed + self.quarantined) / tried if tried else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return every figure as plain JSON values."""
        return asdict(self) | {
            "hours_per_hour": self.hours_per_hour,
            "failed_fraction": self.failed_fraction,
        }


def index_archive(config: IndexConfig, progress: Progress = lambda *_: None) -> IndexReport:
    """Index every video of `config.archive` that the memory does not hold as configured.

    Needs an initialised Ray. Raises SourceError (archive), MemoryStoreError, ModelLoadError; what
    is wrong with a single video becomes its row instead.
    """
    started = time.monotonic()
    sources = list_videos(config.archive, config.patterns, config.archive_options)
    encoder = encoder_facts(config.encoder)
    student = student_fingerprint(config.student) if config.memory.store_features else None
    store = MemoryStore.open(
        config.memory,
        embedding_dim=encoder.dim,
        encoder_fingerprint=encoder.fingerprint,
        create=True,
    )
    store.record_run(config_to_yaml(without_credentials(config)))
    fingerprint = index_fingerprint(config, encoder.fingerprint, student)
    todo = plan_work(sources, store.video_states().to_pylist(), fingerprint, config)
    if todo:
        with _watch(store, todo, progress), warnings.catch_warnings():
            # Ray 2.60 has no other way to bound an actor task's retries; pinned below 2.64.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            lost = in_rounds(
                todo,
                lambda left: chain(left, config, encoder.dim, fingerprint).materialize(),
                lambda left: _without_outcome(store, left, fingerprint),
            )
        _record_lost(store, lost, fingerprint, config)
        store.optimize()
    return _report(store, sources, todo, time.monotonic() - started)


def without_credentials(config: IndexConfig) -> IndexConfig:
    """Return `config` without object store options, which may hold keys, for the record."""
    return replace(config, archive_options={}, memory=replace(config.memory, storage_options={}))


def chain(
    todo: Sequence[tuple[VideoSource, int]],
    config: IndexConfig,
    embedding_dim: int,
    fingerprint: str,
) -> Dataset:
    """Return the lazy chain from work rows to WRITTEN rows."""
    DataContext.get_current().max_errored_blocks = -1  # a lost block becomes worker_lost rows
    decoders, encoders, encode_gpus = pool_sizes(config, len(todo))
    survive = {"max_restarts": -1, "max_task_retries": config.max_attempts}
    return (
        ray.data.from_arrow([_work_row(source, attempts) for source, attempts in todo])
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
            fn_constructor_args=(config, fingerprint),
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


def plan_work(
    sources: Sequence[VideoSource],
    states: Sequence[dict[str, Any]],
    fingerprint: str,
    config: IndexConfig,
) -> list[tuple[VideoSource, int]]:
    """Return what is to be done as (source, number of the attempt).

    Skipped: videos indexed under this fingerprint, quarantined ones, and ones that failed for a
    reason of their own under this fingerprint (both taken again with `retry_failed`).
    """
    known = {state["video_id"]: state for state in states}
    todo = []
    for source in sources:
        state = known.get(source.video_id)
        if state is None or state["config_fingerprint"] != fingerprint:
            todo.append((source, 1))
        elif state["status"] == schemas.INDEXED:
            continue
        elif config.retry_failed or (
            state["status"] == schemas.FAILED and state["error_class"] in TRANSIENT_KINDS
        ):
            todo.append((source, state["attempts"] + 1))
    return todo


def _work_row(source: VideoSource, attempts: int) -> pa.Table:
    return pa.Table.from_pylist(
        [{"source": json.dumps(asdict(source)), "attempts": attempts}], schema=WORK
    )


def _watch(
    store: MemoryStore, todo: Sequence[tuple[VideoSource, int]], progress: Progress
) -> AbstractContextManager[None]:
    """Report progress from the memory itself, which is true whoever writes to it."""
    before = _rows_of(store, todo)

    def look() -> None:
        rows = _rows_of(store, todo)
        new = [r for key, r in rows.items() if before.get(key) != r]
        progress(len(new), sum(r["status"] != schemas.INDEXED for r in new), len(todo))

    return watching(look)


def _rows_of(
    store: MemoryStore, todo: Sequence[tuple[VideoSource, int]]
) -> dict[str, dict[str, Any]]:
    wanted = {source.video_id for source, _ in todo}
    return {r["video_id"]: r for r in store.video_states().to_pylist() if r["video_id"] in wanted}


def _without_outcome(
    store: MemoryStore, todo: Sequence[tuple[VideoSource, int]], fingerprint: str
) -> list[tuple[VideoSource, int]]:
    """Return the videos of which no worker has recorded how they ended."""
    rows, left = _rows_of(store, todo), []
    for source, attempts in todo:
        row = rows.get(source.video_id)
        if row is None or (row["config_fingerprint"], row["attempts"]) != (fingerprint, attempts):
            left.append((source, attempts))
    return left


def _record_lost(
    store: MemoryStore,
    lost: Sequence[tuple[VideoSource, int]],
    fingerprint: str,
    config: IndexConfig,
) -> None:
    """Give a failure row to every video that came to no end: its worker was lost each time."""
    rows = [
        failure_row(
            source,
            attempts=attempts,
            max_attempts=config.max_attempts,
            config_fingerprint=fingerprint,
            kind="worker_lost",
            message="No worker finished this video; see the job's log. Rerun to retry.",
        )
        for source, attempts in lost
    ]
    if rows:
        store.record_failures(pa.concat_tables(rows))


def _report(
    store: MemoryStore,
    sources: Sequence[VideoSource],
    todo: Sequence[tuple[VideoSource, int]],
    wall_s: float,
) -> IndexReport:
    wanted = {source.video_id for source, _ in todo}
    columns = ["video_id", "status", "error_class", "num_events", "duration_s"]
    every = store.videos(columns=columns).to_pylist() if wanted else []
    rows = [row for row in every if row["video_id"] in wanted]
    status = Counter(row["status"] for row in rows)
    failures = Counter(row["error_class"] for row in rows if row["status"] != schemas.INDEXED)
    indexed = [row for row in rows if row["status"] == schemas.INDEXED]
    return IndexReport(
        found=len(sources),
        skipped=len(sources) - len(todo),
        indexed=status[schemas.INDEXED],
        failed=status[schemas.FAILED],
        quarantined=status[schemas.QUARANTINED],
        failures=dict(failures),
        events=sum(row["num_events"] for row in indexed),
        video_hours=sum(row["duration_s"] for row in indexed) / 3600,
        wall_s=wall_s,
        tokens_stored=store.count_tokens([row["video_id"] for row in indexed]),
    )
