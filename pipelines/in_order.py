"""Recordings that cannot be sought: each is one row of work, done by one worker, which publishes.

    missing parts of a file --one parcel a file--> InOrderStage: decode, cut, encode, publish each
                                                   part when it is complete --> a row for the file

A worker that hands parts on to another stage as it goes cannot be gone on with where it is killed:
Ray does not repeat a task of which results were taken. So a file's worker commits its parts itself,
and who takes its place, in this run or a later one, skips those that have ended: what lies before
the first missing one is decoded once more, and nothing else is done again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Dataset

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.part_indexing import PartWork
from pipelines.parcels import rows_of, wrap
from pipelines.pools import ENCODER_CPUS, Pools, capacity, pool_sizes
from pipelines.running import surviving
from pipelines.stages import DecodeStage, EncodeStage
from pipelines.writing import Done, Writer, with_pauses

LOOK_EVERY_S = 5.0
"""How often the driver counts what workers have published (our choice)."""
DONE = pa.schema([("video_id", pa.string())])


def is_in_order(work: pa.Table) -> pa.Array:
    """Return which rows of work on parts are of recordings that cannot be sought."""
    parts = [PartWork.from_json(text).part for text in work["part"].to_pylist()]
    return pa.array([part.in_order for part in parts], pa.bool_())


Key = tuple[str, str, int]
"""PartWork as JSON, the video's id, and the number of the attempt."""


def keys_of(work: pa.Table) -> list[Key]:
    """Return what tells rows of work on parts apart."""
    return list(zip(*(work[n].to_pylist() for n in ("part", "video_id", "attempts")), strict=True))


def outcomes(store: MemoryStore) -> dict[Key, str]:
    """Return how the parts that have ended did, as their status."""
    return {
        (row["plan"], row["video_id"], row["attempts"]): row["status"]
        for row in store.parts().to_pylist()
        if row["status"] != schemas.PLANNED
    }


def without_outcome(work: pa.Table, store: MemoryStore) -> pa.Table:
    """Return the rows of work on parts of which no worker has recorded how they ended."""
    ended = outcomes(store)
    return work.filter(pa.array([key not in ended for key in keys_of(work)], pa.bool_()))


class InOrderStage:
    """Takes the parts of one recording after the other; holds all that indexing needs."""

    def __init__(self, config: IndexConfig, fingerprints: Fingerprints, embedding_dim: int) -> None:
        self.decode = DecodeStage(config)
        self.encode = EncodeStage(config, fingerprints)
        self.writer = Writer(config, embedding_dim)

    def __call__(self, parcels: pa.Table) -> pa.Table:
        """Publish the parts in a parcel of WORK rows, in their order; return one row for all."""
        for row in rows_of(parcels):
            if without_outcome(row, self.writer.store).num_rows:
                indexed = self.encode.one(self.decode.one(row))
                self.writer.commit(indexed.to_pylist())
        return wrap(pa.table({"video_id": [row["video_id"][0].as_py()]}, schema=DONE))


def run_in_order(
    work: pa.Table,
    turn: int,
    *,
    config: IndexConfig,
    fingerprints: Fingerprints,
    store: MemoryStore,
    count: Done,
) -> None:
    """Do these parts (rows of WORK and `load_bytes`), a worker a recording, until all ended."""
    pools = pool_sizes(config, capacity())
    told = _Told(work, store, count)
    with surviving(turn) as survive:
        dim = store.tables.meta.embedding_dim
        chain = _chain(work, config, fingerprints, dim, pools, survive)
        for _ in with_pauses(chain.iter_internal_ref_bundles(), LOOK_EVERY_S):
            told()
    told()


def _chain(
    work: pa.Table,
    config: IndexConfig,
    fingerprints: Fingerprints,
    embedding_dim: int,
    pools: Pools,
    survive: Mapping[str, int],
) -> Dataset:
    files = files_of(work)
    pool = pools.encoders if pools.encode_gpus else pools.decoders
    return ray.data.from_blocks(files).map_batches(
        InOrderStage,
        fn_constructor_args=(config, fingerprints, embedding_dim),
        num_cpus=config.decode_cpus + ENCODER_CPUS,  # one thread does all of it
        num_gpus=pools.encode_gpus,
        compute=pool.strategy(len(files), ahead=1),
        batch_size=None,
        batch_format="pyarrow",
        **survive,
    )


def files_of(work: pa.Table) -> list[pa.Table]:
    """Return a parcel for each recording, the longest first; parts in their order."""
    load = work.group_by("video_id").aggregate([("load_bytes", "sum")])
    order = load.sort_by([("load_bytes_sum", "descending")])["video_id"]
    place = pc.index_in(work["video_id"], value_set=order.combine_chunks())
    number = [PartWork.from_json(text).part.number for text in work["part"].to_pylist()]
    rows = work.append_column("place", place).append_column("number", pa.array(number))
    rows = rows.sort_by([("place", "ascending"), ("number", "ascending")])
    ends = np.flatnonzero(np.diff(rows["place"].to_numpy(), append=-1)) + 1
    rows = rows.drop_columns(["load_bytes", "place", "number"]).combine_chunks()
    parcels = wrap(rows, ends.tolist())
    return [parcels.slice(i, 1) for i in range(len(ends))]


class _Told:
    """Tells how many parts have ended, as far as it was not told yet."""

    def __init__(self, work: pa.Table, store: MemoryStore, count: Done) -> None:
        self.keys, self.store, self.count = keys_of(work), store, count
        self.done = self.failed = 0

    def __call__(self) -> None:
        ended = outcomes(self.store)
        done = [ended[key] for key in self.keys if key in ended]
        failed = sum(status != schemas.INDEXED for status in done)
        self.count(len(done) - self.done, failed - self.failed)
        self.done, self.failed = len(done), failed
