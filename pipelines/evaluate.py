"""A benchmark's way to its numbers: one Ray Data chain.

    questions - what the shards already hold = todo, one row a video
      todo --> AnswerStage -----------------> <output>/shards/*.parquet, one file a video
               actors with the student; a
               video is decoded and encoded
               once for all of its questions
               and variants
    shards --> result.json, report.html    (jobs/evaluate.py)

Every question of every variant ends as a row: answered, missing (no such file), or failed with a
reason. A rerun with the same settings does what is not answered; new variants are added to old.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from marc_core.config import fingerprint
from marc_core.embed import encoder_facts
from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.datasets.questions import load_questions
from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.results.manifest import make_manifest, run_fingerprint
from marc_core.evaluation.results.prediction import ANSWERED, FAILED, Prediction, unanswered
from marc_core.evaluation.results.result import make_result
from marc_core.evaluation.results.shards import Shards
from marc_core.memory import MemoryStore
from marc_core.models.checkpoints import local_directory
from marc_core.models.loading import student_fingerprint
from marc_core.models.model_settings import model_settings
from pipelines.retry import in_rounds
from pipelines.stages import recorded
from pipelines.watch import watching

Progress = Callable[[int, int, int], None]
"""Called with (videos done, videos failed, videos to do)."""

WORK = pa.schema(
    [("samples", pa.string()), ("variants", pa.list_(pa.string())), ("probe", pa.bool_())]
)
"""A video to do: its samples as JSON, the variants still to run, whether steps are timed alone."""


def evaluate_benchmark(
    config: EvaluateConfig, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Answer every question under every variant that the output does not hold; return the result.

    Needs an initialised Ray. Raises BenchmarkError, ModelLoadError, MemoryStoreError, ConfigError;
    what is wrong with a single video becomes its rows instead.
    """
    started = time.monotonic()
    samples, data = load_questions(config)
    student = student_fingerprint(config.student)
    encoder = encoder_facts(config.encoder).fingerprint
    basis = data
    if config.use_memory:  # refuses a missing memory, or one of another encoder, before any work
        store = MemoryStore.open(config.memory, encoder_fingerprint=encoder)
        basis = fingerprint(data, store.last_config())
    run, attempt = run_fingerprint(config, basis, student, encoder), uuid.uuid4().hex[:8]
    shards = Shards(config.output, run, attempt)
    todo = plan_work(samples, shards.read(), config)
    if todo:
        with _watch(shards, len(todo), progress), warnings.catch_warnings():
            # Ray 2.60 has no other way to say how often an actor's task may be tried again.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            in_rounds(
                todo,
                lambda left, _: chain(left, config, shards).materialize(),
                lambda left: without_outcome(left, shards.read(own=True)),
            )
    predictions = complete(samples, shards.read(), config)
    manifest = make_manifest(
        config, samples, data_hash=data, student_fingerprint=student, encoder_fingerprint=encoder
    )
    return make_result(config, manifest, predictions, time.monotonic() - started)


def chain(todo: Sequence[dict[str, Any]], config: EvaluateConfig, shards: Shards) -> Dataset:
    """Return the lazy chain from work rows to written predictions."""
    DataContext.get_current().max_errored_blocks = -1  # a lost block becomes worker_lost rows
    actors, cpus, gpus = pool_size(config, len(todo))
    return ray.data.from_arrow(
        [pa.Table.from_pylist([row], schema=WORK) for row in todo]
    ).map_batches(
        AnswerStage,
        fn_constructor_args=(config, shards),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=cpus,  # one thread each on CPUs; a GPU actor mostly waits for its GPU
        num_gpus=gpus,
        compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
        max_restarts=-1,
        max_task_retries=1,
    )


def pool_size(config: EvaluateConfig, num_videos: int) -> tuple[int, float, float]:
    """Return (actors, CPUs and GPUs of an actor) for this cluster.

    Without GPUs a small student (`ModelSettings.is_small`) gets an actor a CPU, any other one actor
    with all threads: its weights would not fit the memory several times.
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    if gpus and config.worker_gpus:
        actors = config.workers or max(1, int(gpus / config.worker_gpus))
        return min(actors, num_videos), 0.9, config.worker_gpus
    directory = local_directory("student", config.student.model, config.student.revision)
    small = model_settings(directory).is_small
    actors = config.workers or (max(1, int(cpus)) if small else 1)
    return min(actors, num_videos), 0.9, 0.0


def plan_work(
    samples: Sequence[Sample], known: Sequence[Prediction], config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Return one row a video with its unanswered questions and the variants that miss them.

    A video whose variants are all answered is left out; a missing or failed one is tried again.
    """
    variants = list(config.chosen_variants())
    done = {(o.problem_id, o.variant) for o in known if o.status == ANSWERED}
    rows: list[dict[str, Any]] = []
    for part in by_video(samples):
        left = [
            variant
            for variant in variants
            if any((s.problem_id, variant) not in done for s in part)
        ]
        if left:
            rows.append(
                {
                    "samples": json.dumps([dataclasses.asdict(s) for s in part]),
                    "variants": left,
                    "probe": len(rows) < config.probe_videos,
                }
            )
    return rows


def without_outcome(
    todo: Sequence[dict[str, Any]], known: Sequence[Prediction]
) -> list[dict[str, Any]]:
    """Return the rows of `plan_work` of which some question is not `known` under some variant."""
    found = {(o.problem_id, o.variant) for o in known}

    def ended(row: dict[str, Any]) -> bool:
        samples = json.loads(row["samples"])
        return all(
            (s["problem_id"], variant) in found for s in samples for variant in row["variants"]
        )

    return [row for row in todo if not ended(row)]


def by_video(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Group samples by the video they are about, videos in order of their first sample."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.path, []).append(sample)
    return list(groups.values())


def complete(
    samples: Sequence[Sample], predictions: Sequence[Prediction], config: EvaluateConfig
) -> list[Prediction]:
    """Return exactly one prediction a question and variant; what no worker finished says so."""
    found = {(o.problem_id, o.variant): o for o in predictions}
    lost = "worker_lost: no worker finished this video; see the job's log. Rerun to retry."
    return [
        found.get((sample.problem_id, variant)) or unanswered(sample, variant, FAILED, lost)
        for variant in config.chosen_variants()
        for sample in samples
    ]


class AnswerStage:
    """Holds the models and what opens videos; writes one Parquet file a video."""

    def __init__(self, config: EvaluateConfig, shards: Shards) -> None:
        import torch

        from marc_core.embed import load_encoder
        from marc_core.evaluation.variants.readers import load_readers
        from marc_core.evaluation.variants.sources import open_source

        self.config, self.shards = config, shards
        self.encoder = load_encoder(config.encoder)
        roles = [variant.model for variant in config.chosen_variants().values()]
        self.readers = load_readers(config, roles)
        first = next(iter(self.readers.values()))
        if not torch.cuda.is_available() and first.files.settings.threads:
            torch.set_num_threads(first.files.settings.threads)
        self.source = open_source(config, self.encoder, first)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Answer and write a WORK row's video; repeating it changes nothing. Returns a count."""
        (row,) = batch.to_pylist()
        samples = [sample_from_json(s) for s in json.loads(row["samples"])]
        predictions, failure = recorded(lambda: self.answer(samples, row["variants"], row["probe"]))
        if predictions is None:
            reason = "{kind}: {message}".format(**json.loads(failure or "{}"))
            predictions = [
                unanswered(s, a, FAILED, reason) for a in row["variants"] for s in samples
            ]
        self.shards.write(predictions)
        return pa.table({"predictions": [len(predictions)]})

    def answer(self, samples: list[Sample], variants: list[str], probe: bool) -> list[Prediction]:
        """Answer one video's questions under these variants."""
        from marc_core.evaluation.variants.evaluator import Evaluator

        config = dataclasses.replace(self.config, only_variants=tuple(variants))
        evaluator = Evaluator(config, self.readers, self.encoder, self.source)
        return evaluator.run(samples, probe=probe)


def sample_from_json(values: dict[str, Any]) -> Sample:
    """Return a Sample from `dataclasses.asdict` and JSON, whose tuples became lists."""
    evidence = tuple((a, b) for a, b in values["evidence"])
    tuples = {name: tuple(values[name]) for name in ("options", "tags")}
    return Sample(**values | tuples | {"evidence": evidence})


def _watch(shards: Shards, total: int, progress: Progress) -> AbstractContextManager[None]:
    """Report progress from the shards themselves."""
    return watching(lambda: progress(min(total, shards.count()), 0, total))
