"""Curves reach TensorBoard, W&B and MLflow; a run that goes on writes into the run it began."""

import importlib.util

import pytest

from jobs.training.cgrpo_config import CGrpoJobConfig
from jobs.training.run_log import RunLog
from jobs.training.trackers import check_trackers, forget_trackers
from marc_core.config import load_config
from marc_core.errors import ConfigError


def log_two_parts(tmp_path, name):
    """Steps 1 and 2, a restart behind step 1, steps 2 and 3."""
    config = load_config(
        CGrpoJobConfig, overrides=[f"output='{tmp_path}'", "steps=9", f"trackers=[{name}]"]
    )
    check_trackers(config)
    for first, last in ((0, 2), (1, 3)):
        log = RunLog(config)
        log.begin(first)
        for step in range(first + 1, last + 1):
            log.step(step, {"reward": step / 10, "step_s": 1.0}, [])
        log.close()
    return config


def test_wandb_takes_the_curve_into_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log_two_parts(tmp_path, "wandb")
    folders = [p.name.rsplit("-", 1)[1] for p in (tmp_path / "wandb").glob("offline-run-*")]
    assert set(folders) == {(tmp_path / "wandb.id").read_text()}, "one run, gone on with"
    assert all(list(p.glob("*.wandb")) for p in (tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")  # MLflow's own
def test_mlflow_takes_the_curve_into_one_run(tmp_path, monkeypatch):
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package, reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = log_two_parts(tmp_path, "mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("marc")
    (run,) = client.search_runs([experiment.experiment_id])
    points = client.get_metric_history(run.info.run_id, "train/reward")
    assert {p.step: p.value for p in points} == {1: 0.1, 2: 0.2, 3: 0.3}
    assert run.data.params["reward.tau"] == str(config.reward.tau)
    forget_trackers(tmp_path)
    log_two_parts(tmp_path, "mlflow")
    assert len(client.search_runs([experiment.experiment_id])) == 2, "--fresh begins another run"


def test_a_tracker_that_is_not_installed_is_an_error_with_its_remedy(tmp_path, monkeypatch):
    config = load_config(CGrpoJobConfig, overrides=["trackers=[tensorboard,wandb]"])
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name)
    )
    with pytest.raises(ConfigError, match=r"marc-video\[wandb\].*trackers=\[tensorboard\]"):
        check_trackers(config)


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ConfigError, match=r"expected one of .*wandb"):
        load_config(CGrpoJobConfig, overrides=["trackers=[excel]"])
