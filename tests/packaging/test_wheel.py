"""What a stranger gets from `pip install`: every file, every preset, an index and a search."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import marc_core
from marc_core.config import PRESETS_DIR, IndexConfig, load_config
from tests.head import running_head
from tests.packaging.fresh import PACKAGES, Installed, fresh_environment, tracked_files

pytestmark = pytest.mark.slow

PRESETS = sorted(path.parent.name for path in PRESETS_DIR.glob("*/preset.yaml"))


def test_the_wheel_holds_every_file_of_its_packages(wheel: Path) -> None:
    expected = {str(f) for f in tracked_files() if f.parts[0] in PACKAGES}
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert held == expected


def test_one_version(installed: Installed, wheel: Path) -> None:
    printed = installed.marc("--version").stdout
    assert printed.startswith(f"marc {marc_core.__version__} ")
    assert str(installed.site) in printed
    assert wheel.name.startswith(f"marc_video-{marc_core.__version__}-")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_as_in_the_checkout(
    installed: Installed, preset: str, tmp_path: Path
) -> None:
    (installed.home / "videos").mkdir(exist_ok=True)
    (installed.home / "videos" / "a.mp4").touch()
    printed = installed.marc("index", "videos", "--preset", preset, "--dry-run").stdout
    (tmp_path / "resolved.yaml").write_text(printed)
    resolved = load_config(IndexConfig, files=[tmp_path / "resolved.yaml"])
    assert resolved == load_config(IndexConfig, preset=preset, overrides=["archive=[videos]"])


def test_shipped_configurations_are_found_by_name(installed: Installed) -> None:
    printed = installed.marc("evaluate", "--config", "gap", "--dry-run").stdout
    assert "paper-oracle" in printed


def test_index_and_search(installed: Installed, clip_writer: Callable[..., Path]) -> None:
    for seed in range(2):
        clip = clip_writer(installed.home / "archive" / f"clip{seed}.mp4", seed=seed)
        clip.with_suffix(".json").write_text('{"synthetic": true}')  # else found by text alone
    report = json.loads(installed.marc("index", "archive", "--memory", "memory", "--json").stdout)
    assert report["indexed"] == 2
    found = json.loads(
        installed.marc("search", "a red circle", "--memory", "memory", "--json").stdout
    )
    assert {Path(hit["uri"]).name for hit in found} <= {"clip0.mp4", "clip1.mp4"}
    assert len(found) >= 2


def test_submit_ships_the_installed_packages_to_a_cluster_without_them(
    installed: Installed, clip_writer: Callable[..., Path], tmp_path: Path
) -> None:
    cluster = fresh_environment(tmp_path)
    archive, memory = tmp_path / "archive", tmp_path / "memory"
    clip_writer(archive / "clip.mp4")
    with running_head(cluster.bin / "python", cwd=cluster.home, home=installed.home) as address:
        submit = ("submit", "--address", address, "--")
        shown = installed.marc(*submit, "--version")
        indexed = installed.marc(*submit, "index", str(archive), "--memory", str(memory))
    said = shown.stdout + shown.stderr
    assert f"uploading marc {marc_core.__version__} (marc_core, pipelines, jobs, serving)" in said
    assert "runtime_resources" in said.split(f"marc {marc_core.__version__} (/")[1]
    assert "SUCCEEDED" in indexed.stdout + indexed.stderr
    found = json.loads(installed.marc("status", "--memory", str(memory), "--json").stdout)
    assert (found["videos"], found["indexed"]) == (1, 1)
