"""Which videos a run takes up, as rows of work; which came to no end, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.indexing import TRANSIENT_KINDS, failure_row
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource
from pipelines.stages import WORK


def plan_work(
    sources: Sequence[VideoSource],
    states: Sequence[dict[str, Any]],
    fingerprints: Fingerprints,
    config: IndexConfig,
) -> list[tuple[VideoSource, int]]:
    """Return what is to be done as (source, number of the attempt).

    Skipped: videos indexed under these fingerprints, quarantined ones, and ones that failed for a
    reason of their own under them (both taken again with `retry_failed`).
    """
    known = {state["video_id"]: state for state in states}
    todo = []
    for source in sources:
        state = known.get(source.video_id)
        if state is None or not fingerprints.match(state):
            todo.append((source, 1))
        elif state["status"] == schemas.INDEXED:
            continue
        elif config.retry_failed or (
            state["status"] == schemas.FAILED and state["error_class"] in TRANSIENT_KINDS
        ):
            todo.append((source, state["attempts"] + 1))
    return todo


def work_row(source: VideoSource, attempts: int) -> pa.Table:
    """Return the WORK row of one video."""
    return pa.Table.from_pylist([{"source": source.to_json(), "attempts": attempts}], schema=WORK)


def rows_of(
    store: MemoryStore, todo: Sequence[tuple[VideoSource, int]]
) -> dict[str, dict[str, Any]]:
    """Return the states of the videos of `todo` that the memory knows, by video_id."""
    wanted = {source.video_id for source, _ in todo}
    return {r["video_id"]: r for r in store.video_states().to_pylist() if r["video_id"] in wanted}


def without_outcome(
    store: MemoryStore, todo: Sequence[tuple[VideoSource, int]], fingerprints: Fingerprints
) -> list[tuple[VideoSource, int]]:
    """Return the videos of which no worker has recorded how they ended."""
    rows, left = rows_of(store, todo), []
    for source, attempts in todo:
        row = rows.get(source.video_id)
        if row is None or row["attempts"] != attempts or not fingerprints.match(row):
            left.append((source, attempts))
    return left


def record_lost(
    store: MemoryStore,
    lost: Sequence[tuple[VideoSource, int]],
    fingerprints: Fingerprints,
    config: IndexConfig,
) -> None:
    """Give a failure row to every video that came to no end: its worker was lost each time."""
    rows = [
        failure_row(
            source,
            attempts=attempts,
            max_attempts=config.max_attempts,
            fingerprints=fingerprints,
            kind="worker_lost",
            message="No worker finished this video; see the job's log. Rerun to retry.",
        )
        for source, attempts in lost
    ]
    if rows:
        store.record_failures(pa.concat_tables(rows))
