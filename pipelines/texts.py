"""Text beside events: what is said, written and shown in videos that are indexed, by a pass of its
own after indexing.

    indexed videos whose stage fingerprint is another = work, in blocks of about equal work
      work --> TextsStage --> Commits --> Writer --> texts, events.text, stage fingerprints
               CPU actors: models of
               all stages, each loaded
               when first needed

The same whether a stage was on from the start or is switched on later: nothing is decoded for
events again, and no event is cut anew. A stage that fails on a video is a warning of that video;
what may go better next time is tried again by the next run. A run that was killed goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Dataset

from marc_core import schemas
from marc_core.config import IndexConfig, MethodConfig
from marc_core.memory import MemoryStore
from marc_core.memory.stage_texts import COLUMN_OF, OUTCOMES, warning
from marc_core.schemas import TextKind
from marc_core.text.stage import Span, StageResult, TextStage
from marc_core.text.stages import cost_lines, make_stage, stage_names, switched_on
from marc_core.text_rows import stage_rows
from marc_core.types import VideoSource
from marc_core.video_rows import QUARANTINED_KINDS, TRANSIENT_KINDS
from pipelines.parcels import handed_on
from pipelines.plan import LOST
from pipelines.pools import Pools
from pipelines.retry import in_rounds
from pipelines.stages import INDEXED, WORK, recorded, to_ipc

TEXT_WORK = pa.schema([*WORK, ("kinds", pa.list_(pa.string()))])
"""A video whose texts are to be made: `kinds` of them."""
TEXT_COLUMNS = [
    "video_id", "uri", "size_bytes", "version", "attempts", "duration_s", "num_events", "synthetic",
    *COLUMN_OF.values(),
]  # fmt: skip
"""What is known of a video before its texts are made."""
_ATTEMPT = re.compile(r"\(attempt (\d+)\)$")


@dataclass(frozen=True, kw_only=True)
class TextsPlan:
    """What is to be made. work: rows of TEXT_WORK and `load_bytes`. names: the stages'
    fingerprints. videos, hours, events: of the work, by kind. left_out: lines that say which
    stages cannot run, and why."""

    work: pa.Table
    names: Mapping[TextKind, str] = field(default_factory=dict)
    videos: Mapping[TextKind, int] = field(default_factory=dict)
    hours: Mapping[TextKind, float] = field(default_factory=dict)
    events: Mapping[TextKind, int] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        """Yield what the pass will look at and take, and what is left out."""
        yield from cost_lines(self.videos, self.hours, self.events)
        yield from self.left_out


@dataclass(frozen=True, kw_only=True)
class StagesOn:
    """The text stages that are on. modes: auto leaves synthetic videos out. names: the stages'
    fingerprints. left_out: lines that say which of them cannot run, and why."""

    modes: Mapping[TextKind, Literal["auto", "on"]] = field(default_factory=dict)
    names: Mapping[TextKind, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    @classmethod
    def of(cls, config: MethodConfig, *, has_footage: bool = True) -> StagesOn:
        """Return the stages of a configuration. No model is loaded; none is looked for where none
        comes into question. Raises MissingExtraError, ModelLoadError for one that is `on`."""
        on = switched_on(config.text)
        modes = {kind: mode for kind, mode in on.items() if mode == "on" or has_footage}
        names, left_out = stage_names(modes, config)
        return cls(modes=modes, names=names, left_out=left_out)

    def lacking(self, rows: pa.Table) -> dict[TextKind, pa.ChunkedArray]:
        """Return, by kind, which of these rows of TEXT_COLUMNS lack what the stage would make."""
        footage = pc.invert(pc.fill_null(rows["synthetic"], False))
        wanted = {}
        for kind, name in self.names.items():
            stale = pc.fill_null(pc.not_equal(rows[COLUMN_OF[kind]], name), True)
            wanted[kind] = stale if self.modes[kind] == "on" else pc.and_(stale, footage)
        return wanted


def plan_texts(store: MemoryStore, found: pa.ChunkedArray, config: MethodConfig) -> TextsPlan:
    """Return which of these videos lack texts of stages that are on. found: video ids.

    auto leaves synthetic videos out. No model is touched where no video comes into question.
    """
    store.refresh()  # the videos that were indexed a moment ago
    rows = store.videos(columns=TEXT_COLUMNS)
    visible = pc.greater(pc.fill_null(rows["num_events"], 0), 0)
    rows = rows.filter(pc.and_(visible, pc.is_in(rows["video_id"], pc.unique(found))))
    stages = StagesOn()
    if rows.num_rows:
        footage = pc.invert(pc.fill_null(rows["synthetic"], False))
        stages = StagesOn.of(config, has_footage=pc.any(footage).as_py())
    wanted = stages.lacking(rows)
    return TextsPlan(
        work=text_work(rows, wanted),
        names=stages.names,
        videos={kind: _sum(mask, mask) for kind, mask in wanted.items() if _sum(mask, mask)},
        hours={k: _sum(rows["duration_s"], mask) / 3600 for k, mask in wanted.items()},
        events={k: int(_sum(rows["num_events"], mask)) for k, mask in wanted.items()},
        left_out=stages.left_out,
    )


def _sum(values: pa.ChunkedArray, mask: pa.ChunkedArray) -> Any:
    return pc.sum(values.filter(mask)).as_py() or 0


def text_work(rows: pa.Table, wanted: Mapping[TextKind, pa.ChunkedArray]) -> pa.Table:
    """Return the work (rows of TEXT_WORK and `load_bytes`) on rows of TEXT_COLUMNS.

    wanted: by kind, which of them lack it.
    """
    masks = {kind: mask.to_pylist() for kind, mask in wanted.items()}
    work = []
    for i, row in enumerate(rows.to_pylist()):
        kinds = [kind for kind, mask in masks.items() if mask[i]]
        if kinds:
            load = {"load_bytes": float(row["size_bytes"]), "kinds": kinds}
            work.append({**row, "source": VideoSource.of_row(row).to_json(), **load})
    schema = pa.schema([*TEXT_WORK, ("load_bytes", pa.float64())])
    return pa.Table.from_pylist(work, schema=schema)


def make_texts(
    plan: TextsPlan,
    *,
    run: Callable[..., Mapping[str, str]],
    store: MemoryStore,
    config: IndexConfig,
) -> dict[str, str]:
    """Make the texts of this plan; return why some videos lack them, by address."""
    reasons: dict[str, str] = {}

    def run_once(left: pa.Table, turn: int) -> None:
        reasons.update(run(left, turn, make=partial(texts_chain, config=config)))

    def unsettled(left: pa.Table) -> pa.Table:
        again = plan_texts(store, left["video_id"], config).work
        known = pa.array(list(reasons), pa.string())
        return again.filter(pc.invert(pc.is_in(again["video_id"], known)))

    lost = in_rounds(plan.work, run_once, unsettled)
    _record_lost(lost, store)
    reasons |= dict.fromkeys(lost["video_id"].to_pylist(), LOST)
    ours = plan.work.filter(pc.is_in(plan.work["video_id"], pa.array(list(reasons), pa.string())))
    sources = [VideoSource.from_json(source.as_py()) for source in ours["source"]]
    return {source.uri: reasons[source.video_id] for source in sources}


def _record_lost(lost: pa.Table, store: MemoryStore) -> None:
    """Give a warning to every video whose worker was lost each time; the next run tries again."""
    outcomes = []
    for row in lost.to_pylist():
        video = store.get_video(row["video_id"])
        if video is not None:
            outcomes += lost_outcomes(video, row["kinds"])
    if outcomes:
        store.publish_stage_texts(
            pa.Table.from_pylist(outcomes, schema=OUTCOMES), schemas.TEXTS.empty_table()
        )


def lost_outcomes(video: Mapping[str, Any], kinds: Sequence[TextKind]) -> list[dict[str, Any]]:
    """Return the OUTCOMES rows of a video that took its worker along. video: its `videos` row."""
    return [_outcome(video, kind, None, [LOST]) for kind in kinds]


def texts_chain(
    blocks: Sequence[pa.Table],
    *,
    config: IndexConfig,
    pools: Pools,
    survive: Mapping[str, int],
) -> Dataset:
    """Return the lazy chain from blocks of TEXT_WORK parcels to INDEXED parcels of texts alone."""
    ahead = 1 if survive["max_task_retries"] else 2
    common: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", **survive}
    return ray.data.from_blocks(list(blocks)).map_batches(
        TextsStage,
        fn_constructor_args=(config,),
        num_cpus=config.decode_cpus,  # below 1: leaves room for the writer
        compute=pools.decoders.strategy(len(blocks), ahead=ahead),
        **common,
    )


class TextsStage:
    """Holds the open memory, for events and their times, and the text stages."""

    def __init__(self, config: IndexConfig, *, cache_bytes: int = 64 << 20) -> None:
        """cache_bytes: of each of LanceDB's caches."""
        import torch

        torch.set_num_threads(1)
        self.config = config
        self.store = MemoryStore.open(config.memory, cache_bytes=cache_bytes)
        self.stages: dict[TextKind, TextStage] = {}

    def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
        """Map parcels of TEXT_WORK rows to parcels of INDEXED rows that hold texts alone."""
        yield from handed_on(parcels, self.one)

    def one(self, batch: pa.Table) -> pa.Table:
        """Map a TEXT_WORK row to an INDEXED row."""
        (row,) = batch.to_pylist()
        cells, failure = recorded(lambda: self.texts(VideoSource.from_json(row["source"]), row))
        if cells is None:
            cells = {"failed": True, "failure": failure}
        return pa.Table.from_pylist([{"video_id": row["video_id"], **cells}], schema=INDEXED)

    def texts(self, source: VideoSource, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a video: texts and outcomes of all its kinds, tables as streams."""
        from marc_core.video import local_copy

        video = self.store.get_video(row["video_id"])
        spans = self.spans(row["video_id"])
        if video is None or not spans:  # deleted meanwhile: nothing to do
            return {"failed": False}
        outcomes, texts, failures = [], [], []
        with local_copy(source, self.config.archive_options) as path:
            for kind in row["kinds"]:
                result, failure = recorded(partial(self.look, kind, path, spans, source, video))
                name = self.stages[kind].fingerprint if kind in self.stages else None
                outcomes.append(_judged(video, kind, name, result, failure))
                failures += [failure] if failure else []
                if result is not None and name is not None:
                    texts += stage_rows(spans, row["video_id"], kind, result.lines, name)
        return {
            "failed": bool(failures),
            "failure": failures[0] if failures else None,
            "stages": to_ipc(pa.Table.from_pylist(outcomes, schema=OUTCOMES)),
            "texts": to_ipc(pa.Table.from_pylist(texts, schema=schemas.TEXTS)),
        }

    def spans(self, video_id: str) -> list[Span]:
        """Return a video's events in order of time."""
        columns = ["event_id", "start_s", "end_s", "frame_times_s"]
        events = self.store.events_of(video_id, columns=columns).to_pylist()
        spans = [Span(**e | {"frame_times_s": tuple(e["frame_times_s"] or ())}) for e in events]
        return sorted(spans, key=lambda span: (span.start_s, span.event_id))

    def look(
        self,
        kind: TextKind,
        path: str,
        spans: Sequence[Span],
        source: VideoSource,
        video: Mapping[str, Any],
    ) -> StageResult:
        """Return what one stage finds in the file."""
        if kind not in self.stages:
            self.stages[kind] = make_stage(kind, self.config)
        warnings = video["warnings"] or ()
        return self.stages[kind].texts(path, spans, stream=source.stream, warnings=warnings)


def _judged(
    video: Mapping[str, Any],
    kind: TextKind,
    name: str | None,
    result: StageResult | None,
    failure: str | None,
) -> dict[str, Any]:
    """Return the OUTCOMES row of a stage that ended with a result or a failure.

    A failure of the file's own is settled: trying again would end the same. One that may pass is
    tried again by the next run, what kills or stalls a decoder three times at most.
    """
    if result is not None:
        return _outcome(video, kind, name, result.warnings)
    failed = json.loads(failure or "{}")
    message, attempt = failed["message"], _attempts(video, kind) + 1
    given_up = failed["kind"] in QUARANTINED_KINDS and attempt >= MOST_ATTEMPTS
    if failed["kind"] in TRANSIENT_KINDS and not given_up:
        return _outcome(video, kind, None, [f"{message} (attempt {attempt})"])
    return _outcome(video, kind, name, [message])


MOST_ATTEMPTS = 3
"""Times that a stage is tried on a file that stalls or kills it (our choice, as for videos)."""


def _attempts(video: Mapping[str, Any], kind: TextKind) -> int:
    own = [w for w in video["warnings"] or () if w.startswith(warning(kind, ""))]
    found = [_ATTEMPT.search(line) for line in own]
    return max((int(match[1]) for match in found if match), default=0)


def _outcome(
    video: Mapping[str, Any], kind: TextKind, name: str | None, warnings: Sequence[str]
) -> dict[str, Any]:
    return {
        "video_id": video["video_id"],
        "kind": kind,
        "fingerprint": name,
        "warnings": list(warnings),
        "indexed_at": video["indexed_at"],
    }
