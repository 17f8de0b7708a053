"""One source of defaults; what is not known is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from marc_core.config import config_to_yaml
from marc_core.errors import ConfigError, MissingMemoryError
from serving.config import (
    ReplicaConfig,
    ServeConfig,
    check_anonymous,
    is_loopback,
    load_serve_config,
    method_of,
)

ROOT = Path(__file__).resolve().parents[2]


def test_values_of_a_deploy_file_and_of_the_command_line() -> None:
    config = load_serve_config(
        {"memory": "m", "student": {"max_replicas": 3}}, overrides=["limits.deadline_s=5"]
    )
    assert config == ServeConfig(
        memory="m",
        student=ReplicaConfig(
            max_replicas=3, num_cpus=0.3, max_ongoing=64, max_queued=32, target_ongoing=12.0
        ),
        limits=type(config.limits)(deadline_s=5),
    )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"memroy": "m"}, "memroy"),
        ({"student": {"max_replica": 2}}, "student.max_replica"),
        ({"student": {"num_gpus": -1}}, "student.num_gpus"),
        ({"student": {"max_ongoing": "many"}}, "student.max_ongoing"),
        ({"gateway": {"min_replicas": 3, "max_replicas": 2}}, "max_replicas"),
        ({"limits": {"deadline_s": 0}}, "limits.deadline_s"),
        ({"port": 70_000}, "port"),
        ({"retention": {"memory_days": 1e6}}, "retention.memory_days"),
        ({"retention": {"uploads_days": 1e300}}, "retention.uploads_days"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_serve_config(given)


def test_the_shipped_deploy_file_fits_the_builder() -> None:
    from ray.serve.schema import ServeDeploySchema

    deploy = ServeDeploySchema.model_validate(
        yaml.safe_load((ROOT / "serving" / "serve.yaml").read_text())
    )
    (application,) = deploy.applications
    assert application.import_path == "serving.app:build"
    config = load_serve_config(application.args)
    assert config.student.max_replicas == 4
    assert deploy.http_options.host == config.host


def test_a_configuration_survives_its_yaml() -> None:
    config = load_serve_config({"memory": "m", "gateway": {"max_replicas": 2}})
    assert load_serve_config(yaml.safe_load(config_to_yaml(config))) == config


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("[::1]", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.3", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_without_keys_only_this_machine_is_answered(host: str, own: bool) -> None:
    assert is_loopback(host) is own
    if own:
        check_anonymous(ServeConfig(), host)
    else:
        with pytest.raises(ConfigError, match="marc keys create"):
            check_anonymous(ServeConfig(), host)
        check_anonymous(ServeConfig(keys="keys.json"), host)


def test_a_missing_memory_is_said_before_ray_starts() -> None:
    with pytest.raises(MissingMemoryError):
        method_of(ServeConfig(memory="/nowhere/memory"))
