"""Another encoder for a memory: every event embedded anew, then all vectors exchanged at once.

    visible events of the memory - those with a staged vector = work, in blocks of about equal work
      work --> ReadStage --> EmbeddingStage --> Commits --> Writer --> staged vectors
      none misses: ONE commit exchanges all vectors, and binds the memory to the encoder

A memory has one encoder, so the memory says what is to be done, not the listing of an archive;
where one is named, files that have moved are looked for in it. Cuts stay, also those by change
points that another encoder's vectors gave. A run that was killed goes on; until no event misses its
vector, the memory answers as before and other jobs may go on.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from marc_core.config import IndexConfig, config_to_yaml
from marc_core.embed import EncoderFacts, encoder_facts
from marc_core.memory import MemoryStore
from marc_core.memory.tables import Meta
from marc_core.types import VideoSource
from marc_core.video import list_videos, require_decord
from pipelines.kept import keep_moved
from pipelines.plan import collect
from pipelines.redo import EmbeddingStage, redo_in_rounds
from pipelines.report import IndexReport, make_report
from pipelines.running import Counter, Progress, run_chain, without_credentials
from pipelines.stages import WORK


@dataclass(frozen=True, kw_only=True)
class EmbeddingsPlan:
    """What is to be done until the memory has another encoder.

    now: the memory's binding. encoder: the one that it shall have. events: visible ones; missing:
    of them without a vector of it. work: videos to read (rows of WORK and `load_bytes`).
    """

    now: Meta
    encoder: EncoderFacts
    events: int
    missing: int
    work: pa.Table

    @property
    def bound(self) -> bool:
        """Whether the memory has this encoder."""
        return self.now.encoder_fingerprint == self.encoder.fingerprint


def preview_embeddings(config: IndexConfig) -> EmbeddingsPlan:
    """Return what `redo_embeddings` would do; nothing is written, and no Ray is needed."""
    return plan_embeddings(MemoryStore.open(config.memory), encoder_facts(config.encoder))


def plan_embeddings(store: MemoryStore, encoder: EncoderFacts) -> EmbeddingsPlan:
    """Return what is to be done so that the memory gets this encoder."""
    columns = ["video_id", "uri", "size_bytes", "version", "attempts", "num_events"]
    videos = store.videos(columns=columns)
    visible = videos.filter(pc.greater(pc.fill_null(videos["num_events"], 0), 0))
    missing = store.missing_embeddings(encoder.fingerprint)
    if store.meta.encoder_fingerprint == encoder.fingerprint:
        missing = missing.slice(0, 0)
    left = visible.filter(pc.is_in(visible["video_id"], missing["video_id"].combine_chunks()))
    rows = [
        {**row, "source": VideoSource.of_row(row).to_json(), "load_bytes": float(row["size_bytes"])}
        for row in left.to_pylist()
    ]
    return EmbeddingsPlan(
        now=store.meta,
        encoder=encoder,
        events=pc.sum(visible["num_events"], min_count=0).as_py(),
        missing=missing.num_rows,
        work=pa.Table.from_pylist(rows, schema=pa.schema([*WORK, ("load_bytes", pa.float64())])),
    )


def redo_embeddings(config: IndexConfig, progress: Progress = lambda *_: None) -> IndexReport:
    """Embed every event of the memory with `config.encoder`, and exchange all vectors.

    Needs an initialised Ray. Raises MemoryStoreError, ModelLoadError, SourceError (archive). Where
    a video cannot be read nothing is exchanged; the report says which and why.
    """
    started = time.monotonic()
    if config.video.backend == "decord":
        require_decord()
    encoder = encoder_facts(config.encoder)
    store = MemoryStore.open(config.memory)
    moved = _keep_moved(store, config)
    plan = plan_embeddings(store, encoder)
    if plan.bound:
        store.complete_switch()
        return _report(store, started, moved=moved)
    count = Counter(progress, plan.work.num_rows)
    dim = store.meta.embedding_dim
    kept = redo_in_rounds(
        plan.work,
        run=partial(run_chain, config=config, embedding_dim=dim, count=count),
        stage=EmbeddingStage,
        config=config,
        without_outcome=lambda left: _still_missing(left, store, encoder),
    )
    missing = plan_embeddings(store, encoder).work.num_rows
    if not missing:
        record = _record(store.last_config(), config)
        store.switch_encoder(encoder.fingerprint, encoder.dim, record)
    redone = plan.work.num_rows - len(kept)
    return _report(store, started, moved=moved, redone=redone, missing=missing, kept=kept)


def _keep_moved(store: MemoryStore, config: IndexConfig) -> int:
    if not config.archive:
        return 0
    listing = list_videos(config.archive, config.patterns, config.archive_options)
    return keep_moved(store, collect(listing), None, config)


def _still_missing(left: pa.Table, store: MemoryStore, encoder: EncoderFacts) -> pa.Table:
    missing = store.missing_embeddings(encoder.fingerprint)["video_id"].combine_chunks()
    return left.filter(pc.is_in(left["video_id"], missing))


def _record(stored: str | None, config: IndexConfig) -> str:
    """Return the memory's configuration with the new encoder: all else was not redone."""
    from omegaconf import OmegaConf

    if stored is None:
        return config_to_yaml(without_credentials(config))
    recorded = OmegaConf.create(stored)
    recorded.encoder = dataclasses.asdict(config.encoder)
    return OmegaConf.to_yaml(recorded)


def _report(
    store: MemoryStore,
    started: float,
    *,
    moved: int,
    redone: int = 0,
    missing: int = 0,
    kept: dict[str, str] | None = None,
) -> IndexReport:
    ids = store.videos(columns=["video_id"])["video_id"]
    return make_report(
        store,
        ids,
        [],
        time.monotonic() - started,
        moved=moved,
        embeddings_redone=redone,
        embeddings_missing=missing,
        kept=kept or {},
        encoder=f"{store.meta.encoder_fingerprint} ({store.meta.embedding_dim} dimensions)",
    )
