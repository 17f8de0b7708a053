"""A training set's way onto disk: one Ray Data chain.

    videos of the source - shards that are done = todo, one row a shard of videos
      todo --> RowStage --------------------> <output>/<fingerprint>/rows, videos (Parquet)
               actors with text encoder and
               vision tower; a video is read
               and encoded once for all of
               its questions

Every video ends in its shard's table: with rows, or with the reason why it has none. A rerun with
the same settings does what is missing; what is wrong with a video stays recorded, see `failed`.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from marc_core.config import fingerprint
from marc_core.embed import encoder_facts
from marc_core.errors import ClusterError
from marc_core.models.student_files import StudentFiles
from marc_core.train_set.config import TrainSetConfig
from marc_core.train_set.rows import RowMaker
from marc_core.train_set.shards import SetShards, VideoRows
from marc_core.train_set.sources import make_opener, open_source
from pipelines.retry import in_rounds
from pipelines.stages import recorded
from pipelines.watch import watching

Progress = Callable[[int, int, int], None]
"""Called with (videos done, videos failed, videos to do)."""
WORK = pa.schema([("name", pa.string()), ("paths", pa.list_(pa.string()))])
"""A shard to do: its name, and its videos."""
WORKER_CPUS = 0.9
"""CPUs of an actor, which computes on one thread; the rest is Ray Data's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetReport:
    """What a run made of a set. address: where it lies. failed: path -> reason."""

    address: str
    videos: int
    questions: int
    failed: dict[str, str]
    wall_s: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @property
    def failed_fraction(self) -> float:
        """Share of the videos that have no rows."""
        return len(self.failed) / max(1, self.videos)


def write_train_set(config: TrainSetConfig, progress: Progress = lambda *_: None) -> SetReport:
    """Write every shard of the set that its folder does not hold; return what is in it.

    Needs an initialised Ray. Raises BenchmarkError, ModelLoadError, ConfigError; what is wrong with
    a single video becomes its row instead. Raises ClusterError where shards were lost twice.
    """
    started = time.monotonic()
    source, shards = open_source(config), set_shards(config)
    work = plan_shards(source.paths(), config.videos_per_shard)
    todo = missing(work, shards)
    total = sum(len(row["paths"]) for row in work)

    def look() -> None:
        done = shards.done()
        progress(sum(len(r["paths"]) for r in work if r["name"] in done), 0, total)

    with watching(look), warnings.catch_warnings():
        # Ray 2.60 has no other way to say how often an actor's task may be tried again.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        lost = in_rounds(
            todo,
            lambda left, _: chain(left, config, shards).materialize(),
            lambda left: missing(left, shards),
        )
    if lost:
        raise ClusterError(
            f"{len(lost)} of {len(work)} shards were lost with their workers. Run the same command "
            "again to make them; the others are kept."
        )
    return report(shards, time.monotonic() - started)


def set_shards(config: TrainSetConfig) -> SetShards:
    """Return where a configuration's set lies: a folder named by all that its rows depend on."""
    kept = dataclasses.asdict(config)
    for name in ("output", "max_failed_fraction", "archive_options", "memory"):
        kept.pop(name)
    kept["student"] = {"frame_max_pixels": config.student.frame_max_pixels,
                       "max_frames": config.student.max_frames,
                       "temporal_positions": config.student.temporal_positions}  # fmt: skip
    files = StudentFiles(config.student)
    encoder = encoder_facts(config.encoder).fingerprint
    name = fingerprint(
        json.dumps(kept, sort_keys=True, default=str),
        open_source(config).data_hash(),
        files.vision_fingerprint,
        encoder,
    )
    return SetShards(config.output, name)


def plan_shards(paths: Sequence[str], videos: int) -> list[dict[str, Any]]:
    """Return one row of WORK for each run of so many videos."""
    return [
        {"name": f"{number:05d}", "paths": list(paths[start : start + videos])}
        for number, start in enumerate(range(0, len(paths), videos))
    ]


def missing(work: Sequence[dict[str, Any]], shards: SetShards) -> list[dict[str, Any]]:
    """Return the rows whose shards are not done."""
    done = shards.done()
    return [row for row in work if row["name"] not in done]


def chain(todo: Sequence[dict[str, Any]], config: TrainSetConfig, shards: SetShards) -> Dataset:
    """Return the lazy chain from shards to do to written files."""
    DataContext.get_current().max_errored_blocks = -1  # a lost block is missing and done again
    gpus = ray.cluster_resources().get("GPU", 0.0)
    actors = int(gpus) or max(1, int(ray.cluster_resources().get("CPU", 1.0)))
    blocks = [pa.Table.from_pylist([row], schema=WORK) for row in todo]
    return ray.data.from_arrow(blocks).map_batches(
        RowStage,
        fn_constructor_args=(config, shards),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=WORKER_CPUS,
        num_gpus=1.0 if gpus else 0.0,
        compute=ActorPoolStrategy(size=min(actors, len(todo)), max_tasks_in_flight_per_actor=2),
        max_restarts=-1,
        max_task_retries=1,
    )


class RowStage:
    """Holds the models and what opens videos; writes one shard after another."""

    def __init__(self, config: TrainSetConfig, shards: SetShards) -> None:
        import torch

        from marc_core.embed import load_encoder

        if not torch.cuda.is_available():
            torch.set_num_threads(1)
        encoder = load_encoder(config.encoder)
        self.shards, self.source = shards, open_source(config)
        self.opener, self.maker = make_opener(config, encoder), RowMaker(config, encoder)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write a WORK row's shard; repeating it changes nothing. Returns counts."""
        (row,) = batch.to_pylist()
        videos = [self.one(path) for path in row["paths"]]
        self.shards.write(row["name"], videos)
        return pa.table({"questions": [sum(len(v.rows) for v in videos)]})

    def one(self, path: str) -> VideoRows:
        """Return what becomes of one video."""
        rows, failure = recorded(lambda: self.rows(path))
        if rows is None:
            return VideoRows(path, (), "{kind}: {message}".format(**json.loads(failure or "{}")))
        return VideoRows(path, tuple(rows))

    def rows(self, path: str) -> list[dict[str, Any]]:
        """Return the rows of one video."""
        return self.maker.rows(self.opener.load(path), self.source.asked(path))


def report(shards: SetShards, wall_s: float) -> SetReport:
    """Return what the set holds."""
    ends = shards.ends()
    return SetReport(
        address=shards.address,
        videos=len(ends),
        questions=sum(end["questions"] for end in ends),
        failed={end["path"]: end["error"] for end in ends if end["error"]},
        wall_s=wall_s,
    )
