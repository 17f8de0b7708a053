"""Long recordings: their parts are rows of work like videos, in a turn after the one that met them.

The first turn lays a recording out and keeps the plan in the memory; the parts that it lacks are
then done in any order, on any node; those of a file that cannot be sought by one worker
(`pipelines.in_order`). What has ended is not done again, by this run or a later one: a part that
failed is a gap with a reason, tried again where a video would be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.part_indexing import PartWork, failed_part
from marc_core.types import VideoSource
from marc_core.video_rows import TRANSIENT_KINDS
from pipelines.in_order import is_in_order, without_outcome
from pipelines.plan import LOST
from pipelines.retry import in_rounds
from pipelines.stages import WORK

PART_WORK = pa.schema([*WORK, ("load_bytes", pa.float64())])


def missing_parts(
    parts: pa.Table, found: pa.Table, fingerprints: Fingerprints, config: IndexConfig
) -> pa.Table:
    """Return the work (rows of PART_WORK) on parts that are to be done.

    parts: rows of schemas.PARTS. found: the archive's videos, rows of plan.FOUND.
    """
    listed = found.filter(pc.is_in(found["video_id"], parts["video_id"].combine_chunks()))
    sources = dict(zip(*(listed[n].to_pylist() for n in ("video_id", "source")), strict=True))
    rows = []
    for row in parts.to_pylist():
        if row["video_id"] in sources and _is_wanted(row, fingerprints, config):
            source = sources[row["video_id"]]
            seconds = row["to_s"] - row["from_s"]
            share = seconds / max(PartWork.from_json(row["plan"]).seconds, 1e-9)
            rows.append(
                {
                    "video_id": row["video_id"],
                    "source": source,
                    "attempts": row["attempts"] + 1,
                    "part": row["plan"],
                    "load_bytes": VideoSource.from_json(source).size_bytes * share,
                }
            )
    return pa.Table.from_pylist(rows, schema=PART_WORK)


def _is_wanted(row: dict[str, Any], fingerprints: Fingerprints, config: IndexConfig) -> bool:
    """Whether a part is to be done: it has not ended, or failed for a reason that may pass."""
    if row["cuts_fingerprint"] != fingerprints.cuts or config.only != "all":
        return False
    if row["status"] == schemas.INDEXED:
        return False
    passing = row["status"] == schemas.FAILED and row["error_class"] in TRANSIENT_KINDS
    return row["status"] == schemas.PLANNED or passing or config.retry_failed


def index_parts(
    found: pa.Table,
    *,
    run: Callable[..., None],
    run_in_order: Callable[..., None],
    add: Callable[[int], None],
    store: MemoryStore,
    fingerprints: Fingerprints,
    config: IndexConfig,
) -> list[str]:
    """Do the parts that recordings of the archive lack; return the ids of these recordings.

    run: runs the chain over rows of WORK, as in `retry.in_rounds`; run_in_order: over those of
    recordings that cannot be sought. add: told how many there are.
    """
    work = missing_parts(store.parts(), found, fingerprints, config)
    ids = work["video_id"].unique().to_pylist()
    if ids:
        add(work.num_rows)
        ordered = is_in_order(work)
        left = partial(without_outcome, store=store)
        lost = [
            *in_rounds(work.filter(pc.invert(ordered)), run, left).to_pylist(),
            *in_rounds(work.filter(ordered), run_in_order, left).to_pylist(),
        ]
        rows = [_lost(row, fingerprints, config) for row in lost]
        if rows:
            store.record_failed_parts(pa.concat_tables(rows))
    store.settle_parts({*ids, *_unsettled(store, found)})
    return ids


def _unsettled(store: MemoryStore, found: pa.Table) -> list[str]:
    """Return the recordings whose parts have all ended, but whose own rows do not say so: a run
    was killed in between."""
    states = store.video_states()
    ours = states.filter(pc.equal(pc.fill_null(states["error_class"], ""), schemas.PARTS_MISSING))
    listed = pc.is_in(ours["video_id"], found["video_id"].combine_chunks())
    return list(ours.filter(listed)["video_id"].to_pylist())


def _lost(row: dict[str, Any], fingerprints: Fingerprints, config: IndexConfig) -> pa.Table:
    return failed_part(
        VideoSource.from_json(row["source"]),
        PartWork.from_json(row["part"]),
        {"kind": "worker_lost", "message": LOST},
        attempts=row["attempts"],
        max_attempts=config.max_attempts,
        fingerprints=fingerprints,
    )
