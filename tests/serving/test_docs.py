"""docs/serving.md names every route, every code of an error, and a manifest that fits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI

from serving.config import ServeConfig, load_serve_config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "serving.md").read_text()


def test_every_route_is_listed(app: FastAPI) -> None:
    table = TEXT.split("## Routes")[1].split("###")[0]
    listed = set(re.findall(r"(GET|POST|DELETE) (/[^`?]*)", table))
    schema: dict[str, Any] = app.openapi()
    known = {
        (method.upper(), path)
        for path, methods in schema["paths"].items()
        for method in methods
        if method != "head"
    }
    assert known <= listed
    assert listed - known == {("GET", "/openapi.json")}


def test_every_code_is_listed() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "serving").rglob("*.py"))
    used = set(re.findall(r'(?:ApiError|_breaks)\(\s*\d{3},\s*"(\w+)"', sources))
    assert "missing_features" in used
    listed = set(re.findall(r"`(\w+)`", TEXT.split("## Errors")[1].split("\n## ")[0]))
    assert used <= listed, used - listed


def test_the_manifest_of_kuberay_fits_the_builder() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    manifest = yaml.safe_load(block)
    (application,) = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    assert load_serve_config(application["args"]).student.num_gpus == 1


def test_the_table_of_deployments_shows_the_defaults() -> None:
    config = ServeConfig()
    for name in ("gateway", "retriever", "student"):
        own = getattr(config, name)
        (row,) = re.findall(rf"^\| {name} \| ([\d.]+) \| ([\d,]+).*? \| (\d[\d,]*) \| (\d+) \|$",
                            TEXT, re.MULTILINE)  # fmt: skip
        told = [float(cell.replace(",", "")) for cell in row]
        assert told == [own.num_cpus, own.max_ongoing, own.max_queued, own.max_replicas], name
    assert f"{config.uploads.max_waiting} jobs |" in TEXT
