"""An archive's way into the memory: one Ray Data chain.

    list archive - what the memory already holds = work, in blocks of about equal work
      work --> DecodeStage --> EncodeStage --> Commits --> Writer --> LanceDB
               CPU actors,     GPU actors,     driver:     one actor (more
               one thread      or one CPU      256 videos, if it falls behind)
               each            actor           64 MB, 5 s

Videos stream: each goes on when it is done. A decoded video waits in the object store only until
an encoder takes it, and Ray Data's back-pressure keeps decoders from running ahead. Every video of
the work ends as a row of `videos`: indexed, failed with a reason, or quarantined; a rerun does what
is missing or changed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset

from marc_core.config import IndexConfig, config_to_yaml
from marc_core.embed import encoder_facts
from marc_core.fingerprints import Fingerprints, fingerprints_of
from marc_core.memory import MemoryStore
from marc_core.models.vision_tower import vision_fingerprint
from marc_core.video import list_videos, require_decord
from pipelines.blocks import alone, deal
from pipelines.kept import keep_moved, read_texts_again
from pipelines.plan import collect, plan_work, record_lost, verdict, without_outcome
from pipelines.pools import ENCODER_CPUS, Pools, capacity, pool_sizes
from pipelines.report import IndexReport, make_report
from pipelines.retry import in_rounds
from pipelines.stages import DecodeStage, EncodeStage
from pipelines.writing import Commits, Done, start_writer

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
    found = collect(listing)
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
    moved = keep_moved(store, found, fingerprints, config)
    plan = plan_work(
        found, store.video_states(), lambda state: verdict(state, fingerprints, config)
    )
    if plan.work.num_rows:
        count = counter(progress, plan.work.num_rows)
        lost = in_rounds(
            plan.work,
            lambda left, turn: run_chain(left, turn, config, encoder.dim, fingerprints, count),
            lambda left: without_outcome(left, store.video_states(), fingerprints),
        )
        record_lost(lost, fingerprints, config, store.record_failures)
        store.optimize()
    updated = read_texts_again(store, found, config)
    ids = plan.found["video_id"], plan.work["video_id"]
    wall_s = time.monotonic() - started
    return make_report(store, *ids, wall_s, listing, moved=moved, texts_updated=updated)


def counter(progress: Progress, total: int) -> Done:
    """Return what counts written videos and reports the sums."""
    done = failed = 0
    progress(0, 0, total)

    def count(videos: int, bad: int) -> None:
        nonlocal done, failed
        done, failed = done + videos, failed + bad
        progress(done, failed, total)

    return count


def run_chain(
    work: pa.Table,
    turn: int,
    config: IndexConfig,
    embedding_dim: int,
    fingerprints: Fingerprints,
    count: Done,
) -> None:
    """Index these videos; return when the last commit is done.

    In the second turn each video is a block of its own: one that takes its worker along takes
    nothing else.
    """
    pools = pool_sizes(config, capacity())
    blocks = deal(work, pools.decoders.most) if turn == 0 else alone(work)
    commits = Commits(lambda: start_writer(config, embedding_dim), config, count)
    try:
        with warnings.catch_warnings():
            # Ray 2.60 has no other way to bound an actor task's retries; pinned below 2.64.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            dataset = chain(blocks, config, fingerprints, pools, last_turn=turn > 0)
        commits.run(dataset.iter_internal_ref_bundles())
    finally:
        commits.stop()


def without_credentials(config: IndexConfig) -> IndexConfig:
    """Return `config` without object store options, which may hold keys, for the record."""
    return replace(config, archive_options={}, memory=replace(config.memory, storage_options={}))


def chain(
    blocks: Sequence[pa.Table],
    config: IndexConfig,
    fingerprints: Fingerprints,
    pools: Pools,
    *,
    last_turn: bool = False,
) -> Dataset:
    """Return the lazy chain from blocks of WORK parcels to INDEXED parcels."""
    # A block that dies with its worker is not repeated at once, because one of its videos may have
    # killed it: the next turn takes its videos one by one, and there Ray may repeat each once.
    survive = {"max_restarts": -1, "max_task_retries": int(last_turn)}
    with DataContext.current(_context()):
        return (
            ray.data.from_blocks(list(blocks))
            .map_batches(
                DecodeStage,
                fn_constructor_args=(config,),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=config.decode_cpus,  # below 1: leaves room for encoder and writer
                compute=pools.decoders.strategy(len(blocks), ahead=1 if last_turn else 2),
                **survive,
            )
            .map_batches(
                EncodeStage,
                fn_constructor_args=(config, fingerprints),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=ENCODER_CPUS,  # mostly waits: for frames, or for its GPU
                num_gpus=pools.encode_gpus,
                compute=pools.encoders.strategy(len(blocks), ahead=1 if last_turn else 2),
                **survive,
            )
        )


def _context() -> DataContext:
    context = DataContext.get_current().copy()
    context.max_errored_blocks = -1  # what a lost block held is found by its missing outcome
    context.target_max_block_size = 1  # every parcel goes on by itself
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0  # models stay loaded
    return context
