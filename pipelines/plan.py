"""Which videos a run takes up, and why; which came to no end, and what becomes of them.

Archives have millions of videos, so all of this is done with columns. What the rules look at (a
video's state: how it ended, how often it was tried, under which fingerprints) takes few different
values: `verdict`, the rules themselves, is asked once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.types import VideoSource
from marc_core.video.beside import texts_fingerprint
from marc_core.video_rows import TRANSIENT_KINDS, failure_row
from pipelines.stages import WORK

FOUND = pa.schema(
    [
        ("video_id", pa.string()),
        ("source", pa.string()),
        ("load_bytes", pa.float64()),
        ("listed_texts", pa.string()),
    ]
)
"""A listed video: VideoSource as JSON, how much work it is, in bytes of video, and the
fingerprint of the files beside it."""
_OF_ONE_VIDEO = ("video_id", "uri", "num_streams", "texts_fingerprint")
"""Columns of `video_states` that no rule looks at: they differ from video to video."""
_LISTED_AT_ONCE = 65_536
LOST = "No worker finished this video; see the job's log. Rerun to retry."


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What becomes of a video in this run. attempt: number of this attempt; None: left alone.

    features_only: its cuts and embeddings stay; only what a student reads is computed anew, from
    the frames that its events show.
    """

    attempt: int | None
    why: str
    features_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run found and will do.

    work: videos to index; redo: videos whose features alone are redone (both rows of WORK and
    `load_bytes`). why: counts by reason, of all that were found. In a preview also moved: videos
    whose file lies elsewhere now, texts: indexed ones whose files beside them have changed, and
    stages: what text stages would look at, a line each.
    """

    found: pa.Table
    work: pa.Table
    redo: pa.Table
    why: Mapping[str, int]
    moved: int = 0
    texts: int = 0
    stages: Sequence[str] = ()


def verdict(
    fingerprints: Fingerprints, config: IndexConfig, state: Mapping[str, Any] | None
) -> Verdict:
    """Return what becomes of a video of which the memory knows `state`, None: nothing.

    Left alone: videos indexed under these fingerprints, quarantined ones, and ones that failed for
    a reason of their own under the same settings of decoding and cutting (both taken again with
    `retry_failed`).
    """
    made = _verdict(fingerprints, config, state)
    if config.only == "texts" and made.attempt is not None:
        return Verdict(attempt=None, why=f"left alone by only=texts: {made.why}")
    if config.only == "features" and made.attempt is not None and not made.features_only:
        return Verdict(attempt=None, why=f"left alone by only=features: {made.why}")
    return made


def _verdict(
    fingerprints: Fingerprints, config: IndexConfig, state: Mapping[str, Any] | None
) -> Verdict:
    if state is None:
        return Verdict(attempt=1, why="new")
    differs = [name for name, value in fingerprints.columns().items() if state[name] != value]
    indexed = state["status"] == schemas.INDEXED
    in_parts = state["error_class"] == schemas.PARTS_MISSING
    if not (indexed or in_parts):  # other models do not help a video that cannot be decoded
        differs = [name for name in differs if name == "cuts_fingerprint"]
    if indexed and differs == ["features_fingerprint"]:
        if fingerprints.features is None:  # it has some, and none are asked for
            return Verdict(attempt=None, why="indexed")
        return Verdict(attempt=state["attempts"], why="features differ", features_only=True)
    if in_parts and not differs:
        return Verdict(attempt=None, why="indexed in parts, of which some are missing")
    if differs:
        return Verdict(attempt=1, why=f"{_what(differs)} differ")
    if indexed:
        return Verdict(attempt=None, why="indexed")
    again = state["status"] == schemas.FAILED and state["error_class"] in TRANSIENT_KINDS
    if config.retry_failed or again:
        return Verdict(attempt=state["attempts"] + 1, why=f"tried again: {state['error_class']}")
    return Verdict(attempt=None, why=f"{state['status']}: {state['error_class']}")


def _what(columns: Sequence[str]) -> str:
    return ", ".join(name.removesuffix("_fingerprint") for name in columns)


def collect(sources: Iterable[VideoSource]) -> pa.Table:
    """Return the FOUND rows of a listing, each video once; a listing may be a generator."""
    seen: set[str] = set()
    tables = [FOUND.empty_table()]
    for some in _in_pieces(sources):
        fresh = [s for s in some if s.video_id not in seen and not seen.add(s.video_id)]  # type: ignore[func-returns-value]
        columns = (
            [s.video_id for s in fresh],
            [s.to_json() for s in fresh],
            [float(s.size_bytes) for s in fresh],
            [texts_fingerprint(s.sidecars) for s in fresh],
        )
        tables.append(pa.table(columns, schema=FOUND))
    return pa.concat_tables(tables)


def plan_work(
    found: pa.Table, states: pa.Table, decide: Callable[[Mapping[str, Any] | None], Verdict]
) -> Plan:
    """Return what is to be done of `found`, by what the memory knows (`video_states`)."""
    known, verdicts = _decided(states, decide)
    new = len(verdicts)
    verdicts = [*verdicts, decide(None)]
    joined = found.join(known, keys="video_id", join_type="left outer")
    number = pc.fill_null(joined["verdict"], new)
    attempts = pa.array([v.attempt for v in verdicts], pa.int32()).take(number.combine_chunks())
    columns = {
        **dict(zip(joined.column_names, joined.columns, strict=True)),
        "attempts": attempts,
        "part": pa.nulls(joined.num_rows, pa.string()),
    }
    work = pa.table({name: columns[name] for name in [*WORK.names, "load_bytes"]})
    counts = pc.value_counts(number).to_pylist()
    why: dict[str, int] = {}
    for count in counts:
        reason = verdicts[count["values"]].why
        why[reason] = why.get(reason, 0) + count["counts"]
    again = pa.array([v.features_only for v in verdicts]).take(number.combine_chunks())
    taken = pc.is_valid(work["attempts"])
    return Plan(
        found=found,
        work=work.filter(pc.and_(taken, pc.invert(again))),
        redo=work.filter(pc.and_(taken, again)),
        why=why,
    )


def _decided(
    states: pa.Table, decide: Callable[[Mapping[str, Any]], Verdict]
) -> tuple[pa.Table, list[Verdict]]:
    """Return (video_id, number of its verdict) of every known video, and the verdicts."""
    names = [n for n in states.column_names if n not in _OF_ONE_VIDEO]
    columns = {n: _without_null(states[n]) for n in names}  # a join never matches null with null
    keyed = pa.table({"video_id": states["video_id"], **columns})
    kinds = keyed.select(names).group_by(names).aggregate([])
    verdicts = [
        decide({n: None if v == "" else v for n, v in row.items()}) for row in kinds.to_pylist()
    ]
    kinds = kinds.append_column("verdict", pa.array(range(len(verdicts)), pa.int32()))
    return keyed.join(kinds, keys=names).select(["video_id", "verdict"]), verdicts


def _without_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column, "") if pa.types.is_string(column.type) else column


def without_outcome(work: pa.Table, states: pa.Table, fingerprints: Fingerprints) -> pa.Table:
    """Return the rows of `work` of which no worker has recorded how they ended."""
    ours = states
    for name, value in fingerprints.columns().items():
        column = ours[name]
        ours = ours.filter(pc.is_null(column) if value is None else pc.equal(column, value))
    ended = ours.select(["video_id", "attempts"])
    return work.join(ended, keys=["video_id", "attempts"], join_type="left anti")


def without_features(redo: pa.Table, states: pa.Table, fingerprints: Fingerprints) -> pa.Table:
    """Return the rows of `redo` whose features are still others."""
    ours = states.filter(pc.equal(states["features_fingerprint"], fingerprints.features))
    return redo.join(ours.select(["video_id"]), keys="video_id", join_type="left anti")


def record_lost(
    lost: pa.Table,
    fingerprints: Fingerprints,
    config: IndexConfig,
    record: Callable[[pa.Table], object],
) -> None:
    """Give a failure row to every video that came to no end: its worker was lost each time."""
    rows = [
        failure_row(
            VideoSource.from_json(row["source"]),
            attempts=row["attempts"],
            max_attempts=config.max_attempts,
            fingerprints=fingerprints,
            kind="worker_lost",
            message=LOST,
        )
        for row in lost.to_pylist()
    ]
    if rows:
        record(pa.concat_tables(rows))


def _in_pieces(sources: Iterable[VideoSource]) -> Iterator[list[VideoSource]]:
    rest = iter(sources)
    while some := list(islice(rest, _LISTED_AT_ONCE)):
        yield some
