"""cluster.yaml is what `ray up` accepts, and installs this project as pinned."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def load() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_accepts_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(load())
    validate_config(config)
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0
    assert any("GPU" in t["resources"] for t in types.values())


def test_nodes_install_this_project_with_its_constraints() -> None:
    config = load()
    (target,) = config["file_mounts"]
    assert config["file_mounts"][target] == "."
    assert any("constraints.txt" in command for command in config["setup_commands"])
