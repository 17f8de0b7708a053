"""Any training function of `marc_core.training`, on 1..N Ray Train workers.

    driver: fit() --> TorchTrainer --> worker: train_fn(config, RaySession)
                                          report / save --> train.report (all ranks together)

A run with the same output folder continues from its last checkpoint: after a worker's death by
itself, after the driver's death when it is started again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from marc_core.errors import ClusterError, ConfigError
from marc_core.training.config import TrainConfig
from marc_core.training.session import (
    Restored,
    Weights,
    append_curve,
    read_checkpoint,
    write_checkpoint,
)

MAX_FAILURES = 3
"""Restarts after a worker's death; a bug that repeats ends the run (our choice)."""
TrainFunction = Callable[[Any, Any], None]


class RaySession:
    """A `Session` inside a Ray Train worker."""

    def __init__(self, output: Path) -> None:
        import ray.train
        import ray.train.torch

        self.rank = ray.train.get_context().get_world_rank()
        self.size = ray.train.get_context().get_world_size()
        self.device = ray.train.torch.get_device()
        self.output = output

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module in DDP where there are several workers."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module)

    def report(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Report metrics; rank 0 also appends them to the curve."""
        import ray.train

        if self.rank == 0:
            append_curve(self.output, stage, step, metrics)
        ray.train.report({"step": step, **metrics})

    def save(
        self,
        stage: int,
        step: int,
        weights: Weights,
        optimizer: dict[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Report a checkpoint; rank 0 uploads it. extra: JSON that `restore` gives back."""
        import ray.train

        metrics = {"stage_index": float(stage), "step": float(step)}
        if self.rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            write_checkpoint(path, stage, step, weights, optimizer, extra)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))

    def restore(self) -> Restored | None:
        """Return the run's last checkpoint, if there is one."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            return read_checkpoint(Path(folder))


def fit(
    train_function: TrainFunction,
    config: TrainConfig,
    *,
    worker: dict[str, float] | None = None,
    storage: tuple[Any, str] | None = None,
) -> Any:
    """Run `train_function(config, session)` on `config.num_workers` workers and wait.

    Waits first for the CPUs and GPUs that they need, see `check_resources`. worker: what Ray
    counts for each, in place of one CPU or GPU. storage: (pyarrow file system, path) of
    checkpoints, in place of `config.output`. Returns Ray Train's result.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    bundles = needed(config) if worker is None else [worker] * config.num_workers
    check_resources(config, bundles)
    output = Path(config.output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    store, path = storage or (None, str(output))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"function": train_function, "config": config, "output": str(output)},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers, use_gpu=config.use_gpu, resources_per_worker=worker
        ),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=path,
            storage_filesystem=store,
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    # Read by the controller, which this process starts: a report costs 2 s otherwise.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    return trainer.fit()


def forget(output: Path) -> None:
    """Remove a run's checkpoints, so that the next run starts afresh."""
    shutil.rmtree(output / "ray", ignore_errors=True)
    for name in ("checkpoint", "checkpoint.old", "checkpoint.new"):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / "curves.jsonl").unlink(missing_ok=True)


def needed(config: TrainConfig) -> list[dict[str, float]]:
    """Return what a run asks for at once: its workers, and one CPU for Ray Train's controller."""
    worker = {"GPU": 1.0, "CPU": 1.0} if config.use_gpu else {"CPU": 1.0}
    return [{"CPU": 1.0}, *[worker] * config.num_workers]


def check_resources(config: TrainConfig, bundles: list[dict[str, float]] | None = None) -> None:
    """Wait until the cluster holds all workers at once.

    Ray Train alone would wait for ever and say nothing. bundles: what they need, in place of
    `needed`. Raises ConfigError at once where not even the largest cluster that the autoscaler may
    start suffices, and ClusterError where what is missing has not come within `start_timeout_s`.
    """
    from ray.util import remove_placement_group

    bundles = needed(config) if bundles is None else bundles
    check_largest(
        bundles,
        f"num_workers={config.num_workers}",
        "Lower num_workers, or use num_workers=0 to train in this process.",
    )
    remove_placement_group(reserved(bundles, config.start_timeout_s))


def check_largest(bundles: list[dict[str, float]], what: str, remedy: str) -> None:
    """Raise ConfigError where the cluster never has the CPUs or GPUs of all bundles."""
    from pipelines.pools import capacity

    has = capacity()
    for name, most in (("CPU", has.most_cpus), ("GPU", has.most_gpus)):
        amount = sum(bundle.get(name, 0.0) for bundle in bundles)
        if most < amount:
            raise ConfigError(
                f"{what} needs {amount:g} {name}; the cluster has {most:g} at most. {remedy}"
            )


def reserved(bundles: list[dict[str, float]], timeout_s: float) -> Any:
    """Return a placement group that holds these bundles. Raises ClusterError when it is late."""
    import ray
    from ray.exceptions import GetTimeoutError
    from ray.util import placement_group, remove_placement_group

    room = placement_group(bundles)  # an autoscaler sees it as demand
    try:
        ray.get(room.ready(), timeout=timeout_s)
    except GetTimeoutError:
        said = missing(bundles, timeout_s)
        remove_placement_group(room)
        raise ClusterError(said) from None
    return room


def missing(bundles: list[dict[str, float]], waited_s: float) -> str:
    """Return what of `bundles` is not free, as one line."""
    import ray

    free = ray.available_resources()
    wanted = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in ("CPU", "GPU")}
    lacking = {name: amount for name, amount in wanted.items() if amount > free.get(name, 0.0)}
    said = ", ".join(
        f"{amount:g} {name} ({free.get(name, 0.0):g} free)"
        for name, amount in (lacking or wanted).items()
        if amount
    )
    return (
        f"The cluster did not give the run its place within {waited_s:g} s: it needs {said}. "
        "Free some, let the cluster grow, lower num_workers, or raise start_timeout_s."
    )


def _worker(loop_config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    session = RaySession(Path(loop_config["output"]))
    loop_config["function"](loop_config["config"], session)
