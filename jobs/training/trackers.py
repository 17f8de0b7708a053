"""Where a run's curve goes besides curves.jsonl: TensorBoard, Weights & Biases, MLflow.

    RunLog --means of a step--> each of `trackers`

Where a service is and who we are, each library reads from its own environment (WANDB_API_KEY,
WANDB_MODE, MLFLOW_TRACKING_URI, ...). A run that goes on writes into the run that it began: its id
is kept beside the curve.
"""

from __future__ import annotations

import importlib.util
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from marc_core.errors import ConfigError

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
_NEEDS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker(Protocol):
    """Takes one point of the curve after another."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point. values: metrics by name, grouped by what stands before the slash."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


def check_trackers(config: CGrpoJobConfig) -> None:
    """Raise ConfigError for a tracker whose package is not installed."""
    for name in config.trackers:
        if importlib.util.find_spec(_NEEDS[name]) is None:
            others = [other for other in config.trackers if other != name]
            raise ConfigError(
                f"trackers={name} needs the package {_NEEDS[name]}, which is not installed: pip "
                f"install 'marc-video[{name}]'. Or leave it out: 'trackers=[{','.join(others)}]'."
            )


def open_trackers(config: CGrpoJobConfig, step: int) -> list[Tracker]:
    """Return the run's trackers; what they hold of steps after `step` is done again."""
    made = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
    return [made[name](config, step) for name in config.trackers]


class TensorBoard:
    """Event files below `output`/tensorboard."""

    def __init__(self, config: CGrpoJobConfig, step: int) -> None:
        from tensorboardX import SummaryWriter

        folder = str(Path(config.output) / "tensorboard")
        self.writer = SummaryWriter(folder, purge_step=step + 1, flush_secs=10)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is not written yet."""
        self.writer.close()


class WeightsAndBiases:
    """A run of project `tracker_project`. W&B leaves out a step that is done again after a
    restart: its first value stays."""

    def __init__(self, config: CGrpoJobConfig, step: int) -> None:
        import wandb

        self.run = wandb.init(
            project=config.tracker_project,
            name=_name(config),
            id=_id(config, "wandb", uuid.uuid4().hex[:8]),
            resume="allow",
            dir=config.output,
            config=asdict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Write what is not written yet."""
        self.run.finish()


class MLflow:
    """A run of experiment `tracker_project`; without MLFLOW_TRACKING_URI in `output`/mlflow.db."""

    def __init__(self, config: CGrpoJobConfig, step: int) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        local = f"sqlite:///{Path(config.output).absolute()}/mlflow.db"
        self.metric: Any = Metric
        self.client: Any = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        found = self.client.get_experiment_by_name(config.tracker_project)
        experiment = (
            found.experiment_id if found else self.client.create_experiment(config.tracker_project)
        )
        kept = _id(config, "mlflow")
        self.id = kept or _id(config, "mlflow", self._new(config, experiment))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.id, [self.metric(k, v, now, step) for k, v in values.items()])

    def close(self) -> None:
        """Mark the run as finished; one that goes on logs into it all the same."""
        self.client.set_terminated(self.id)

    def _new(self, config: CGrpoJobConfig, experiment: str) -> str:
        run = self.client.create_run(experiment, run_name=_name(config))
        for key, value in _flat(asdict(config)).items():
            self.client.log_param(run.info.run_id, key, value)
        return str(run.info.run_id)


def forget_trackers(output: Path) -> None:
    """Let the next run begin runs of its own."""
    for name in _NEEDS:
        _place(output, name).unlink(missing_ok=True)


def _id(config: CGrpoJobConfig, name: str, new: str = "") -> str:
    """Return the id that is kept beside the curve, or keep `new`."""
    place = _place(Path(config.output), name)
    if new and not place.exists():
        place.write_text(new)
    return place.read_text() if place.exists() else ""


def _place(output: Path, name: str) -> Path:
    return output / f"{name}.id"


def _name(config: CGrpoJobConfig) -> str:
    return Path(config.output).name


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Return {a: {b: 1}} as {a.b: 1}, shortened to what MLflow takes."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = str(value)[:500]
    return found
