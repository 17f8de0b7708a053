"""An archive's way into the memory: one Ray Data chain.

    list archive - what the memory already holds = work, in blocks of about equal work
      work --> DecodeStage --> EncodeStage --> Commits --> Writer --> LanceDB
               CPU actors,     GPU actors,     driver:     one actor (more
               one thread      or one CPU      256 videos, if it falls behind)
               each            actor           64 MB, 5 s
      then what is said and written in them: pipelines/texts.py

Videos stream: each goes on when it is done. A decoded video waits in the object store only until
an encoder takes it, and Ray Data's back-pressure keeps decoders from running ahead. A recording
longer than `video.part_s` goes through twice: it is laid out, and then each of its parts is a row
of work by itself (`pipelines.recordings`); where the file cannot be sought, one worker does all of
them (`pipelines.in_order`). Every video of the work ends as a row of `videos`: indexed, failed with
a reason, or quarantined; a rerun does what is missing or changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Dataset

from marc_core import schemas
from marc_core.config import IndexConfig, config_to_yaml
from marc_core.embed import EncoderFacts, encoder_facts
from marc_core.errors import MissingMemoryError
from marc_core.fingerprints import Fingerprints, fingerprints_of
from marc_core.memory import MemoryStore
from marc_core.memory.archive import MemoryArchive
from marc_core.memory.reader import STATES
from marc_core.models.vision_tower import vision_fingerprint
from marc_core.schemas import TextKind
from marc_core.text.stages import check_stages
from marc_core.video import Listing, list_videos, require_decord
from pipelines.copies import index_once
from pipelines.embeddings import redo_embeddings
from pipelines.in_order import run_in_order
from pipelines.kept import (
    forget_readable_folders,
    keep_moved,
    moved_videos,
    read_texts_again,
    stale_texts,
    with_moves,
)
from pipelines.plan import (
    Plan,
    collect,
    plan_work,
    record_lost,
    verdict,
    without_features,
    without_outcome,
)
from pipelines.pools import ENCODER_CPUS, Pools
from pipelines.recordings import index_parts
from pipelines.redo import FeatureStage, redo_in_rounds
from pipelines.report import IndexReport, make_report
from pipelines.retry import in_rounds
from pipelines.running import Counter, Progress, run_chain, without_credentials
from pipelines.stages import DecodeStage, EncodeStage
from pipelines.streams import with_further_streams
from pipelines.texts import make_texts, plan_texts


def index_archive(
    config: IndexConfig,
    progress: Progress = lambda *_: None,
    tell: Callable[[str], object] = lambda _: None,
    texts_progress: Progress | None = None,
) -> IndexReport:
    """Index every video of `config.archive` that the memory does not hold as configured, then make
    the texts of the stages that are on.

    tell: called with a line for people about what is to come. texts_progress: called with how far
    the texts are; without it they count as videos to do, like those to index. Needs an initialised
    Ray. Raises SourceError (archive), MemoryStoreError, ModelLoadError; what is wrong with a single
    video becomes its row instead.
    """
    if config.only == "embeddings":
        return redo_embeddings(config, progress)
    started = time.monotonic()
    listing, encoder, fingerprints = survey(config)
    found = collect(listing)
    store = _open(config, encoder)
    moved = keep_moved(store, found, fingerprints, config)
    states = store.video_states()
    forget_readable_folders(store, found, states, listing)
    plan = plan_archive(found, states, fingerprints, config)
    count = Counter(progress, plan.work.num_rows + plan.redo.num_rows)
    run = partial(run_chain, config=config, embedding_dim=encoder.dim, count=count)
    shared: dict[str, Any] = {"run": run, "store": store, "config": config, "count": count}
    new = _index_new(plan, fingerprints=fingerprints, **shared)
    kept = redo_in_rounds(
        plan.redo,
        run=run,
        stage=FeatureStage,
        config=config,
        without_outcome=lambda left: without_features(left, store.video_states(), fingerprints),
    )
    texts_updated = read_texts_again(store, new.found, config)
    if texts_progress is not None:
        shared["count"] = Counter(texts_progress, 0)
        shared["run"] = partial(run, count=shared["count"])
    made, lacking = _make_texts(new.found, tell=tell, **shared)
    if count.total or shared["count"].total:
        store.optimize()
    return make_report(
        store,
        new.found["video_id"],
        new.tried,
        time.monotonic() - started,
        listing,
        every_stream=config.video.streams == "all",
        moved=moved,
        copied=new.copied,
        texts_updated=texts_updated,
        blind=MemoryArchive(store, config).blind_videos(),
        texts_made=made,
        features_redone=plan.redo.num_rows - len(kept),
        features_kept=len(kept),
        kept=kept | lacking,
    )


def _open(config: IndexConfig, encoder: EncoderFacts) -> MemoryStore:
    """Open the memory, or make it; end what a killed run has begun, and record this one."""
    store = MemoryStore.open(
        config.memory,
        embedding_dim=encoder.dim,
        encoder_fingerprint=encoder.fingerprint,
        create=True,
    )
    store.complete_switch()
    store.record_run(config_to_yaml(without_credentials(config)))
    return store


class _New(NamedTuple):
    """found: all videos of the archive, streams met meanwhile among them. tried: ids of those that
    were indexed, in one part or several. copied: how many have got the rows of an equal file."""

    found: pa.Table
    tried: list[str]
    copied: int


def _index_new(
    plan: Plan,
    *,
    run: Callable[..., Mapping[str, str]],
    store: MemoryStore,
    fingerprints: Fingerprints,
    config: IndexConfig,
    count: Counter,
) -> _New:
    """Index what is new: videos, further streams that their decoding has met, long recordings."""
    make = partial(chain, config=config, fingerprints=fingerprints)
    common: dict[str, Any] = {"store": store, "fingerprints": fingerprints, "config": config}
    once = partial(index_once, index=partial(index_work, run=run, **common), count=count, **common)
    copied = once(plan.work)
    found, tried = plan.found, plan.work["video_id"].to_pylist()
    if config.video.streams == "all" and plan.work.num_rows:
        met = plan_archive(found, store.video_states(), fingerprints, config, from_row=len(found))
        count.add(met.work.num_rows)
        copied += once(met.work)
        found = pa.concat_tables([found, met.found])
        tried += met.work["video_id"].to_pylist()
    tried += index_parts(
        found,
        run=partial(run, make=make),
        run_in_order=partial(run_in_order, count=count, **common),
        add=count.add,
        **common,
    )
    return _New(found, tried, copied)


def _make_texts(
    found: pa.Table,
    *,
    run: Callable[..., Mapping[str, str]],
    store: MemoryStore,
    config: IndexConfig,
    count: Counter,
    tell: Callable[[str], object],
) -> tuple[dict[TextKind, int], dict[str, str]]:
    """Make the texts that these videos lack; return videos looked at by kind, and why some have
    got none, by address."""
    if not _makes_texts(config):
        return {}, {}
    plan = plan_texts(store, found["video_id"], config)
    for line in plan.lines():
        tell(line)
    count.add(plan.work.num_rows)
    count(0, 0)
    return dict(plan.videos), make_texts(plan, run=run, store=store, config=config)


def _makes_texts(config: IndexConfig) -> bool:
    return config.only in ("all", "texts")


def preview(config: IndexConfig) -> Plan:
    """Return what `index_archive` would do; nothing is written, and no Ray is needed.

    Not for `only=embeddings`: that is `preview_embeddings`. Raises what `index_archive` raises
    before its first video.
    """
    listing, encoder, fingerprints = survey(config)
    found = collect(listing)
    try:
        store = MemoryStore.open(
            config.memory,
            embedding_dim=encoder.dim,
            encoder_fingerprint=encoder.fingerprint,
        )
    except MissingMemoryError:
        nothing = schemas.VIDEOS.empty_table().select(STATES)
        return plan_archive(found, nothing, fingerprints, config)
    states = store.video_states()
    moves = moved_videos(store, found, states, fingerprints, config)
    states = with_moves(states, moves)
    plan = plan_archive(found, states, fingerprints, config)
    stale = stale_texts(plan.found, states, config)["video_id"]
    texts = pc.invert(pc.is_in(stale, plan.work["video_id"]))  # those are read when indexed
    staged: Sequence[str] = ()
    if _makes_texts(config):
        staged = tuple(plan_texts(store, plan.found["video_id"], config).lines())
    return replace(plan, moved=len(moves), texts=pc.sum(texts).as_py() or 0, stages=staged)


def plan_archive(
    found: pa.Table,
    states: pa.Table,
    fingerprints: Fingerprints,
    config: IndexConfig,
    *,
    from_row: int = 0,
) -> Plan:
    """Return what is to be done of `found`, and of the further streams of its files if all count.

    from_row: where the rows begin that are planned; len(found) for streams met meanwhile.
    """
    if config.video.streams == "all":
        found = with_further_streams(found, states)
    return plan_work(found.slice(from_row), states, partial(verdict, fingerprints, config))


def index_work(
    work: pa.Table,
    *,
    run: Callable[..., None],
    store: MemoryStore,
    fingerprints: Fingerprints,
    config: IndexConfig,
) -> None:
    """Index these videos, in rounds; record those that came to no end."""
    lost = in_rounds(
        work,
        partial(run, make=partial(chain, config=config, fingerprints=fingerprints)),
        lambda left: without_outcome(left, store.video_states(), fingerprints),
    )
    record_lost(lost, fingerprints, config, store.record_failures)


def survey(config: IndexConfig) -> tuple[Listing, EncoderFacts, Fingerprints]:
    """Return the archive's listing, and what the configured models make of its videos."""
    if config.video.backend == "decord":
        require_decord()
    check_stages(config)
    listing = list_videos(config.archive, config.patterns, config.archive_options)
    encoder = encoder_facts(config.encoder)
    tower = vision_fingerprint(config.student) if config.memory.store_features else None
    return listing, encoder, fingerprints_of(config, encoder.fingerprint, tower)


def chain(
    blocks: Sequence[pa.Table],
    *,
    config: IndexConfig,
    fingerprints: Fingerprints,
    pools: Pools,
    survive: Mapping[str, int],
) -> Dataset:
    """Return the lazy chain from blocks of WORK parcels to INDEXED parcels."""
    ahead = 1 if survive["max_task_retries"] else 2
    common: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", **survive}
    return (
        ray.data.from_blocks(list(blocks))
        .map_batches(
            DecodeStage,
            fn_constructor_args=(config,),
            num_cpus=config.decode_cpus,  # below 1: leaves room for encoder and writer
            compute=pools.decoders.strategy(len(blocks), ahead=ahead),
            **common,
        )
        .map_batches(
            EncodeStage,
            fn_constructor_args=(config, fingerprints),
            num_cpus=ENCODER_CPUS,  # mostly waits: for frames, or for its GPU
            num_gpus=pools.encode_gpus,
            compute=pools.encoders.strategy(len(blocks), ahead=ahead),
            **common,
        )
    )
