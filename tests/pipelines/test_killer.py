"""A file that kills its worker costs itself an attempt, and nobody else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.memory import MemoryStore
from pipelines import index
from pipelines.stages import DecodeStage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


class KilledByAFile(DecodeStage):
    """A decoder whose whole worker dies at one file, as it does where memory runs out."""

    def decode(self, row, source):
        if source.uri.endswith("killer.mp4"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(row, source)


def test_one_killer_among_64(
    tmp_path: Path, clip_writer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = clip_writer(tmp_path / "archive" / "clip00.mp4", seconds=1.0)
    for i in range(1, 63):  # 63 good ones
        (first.parent / f"clip{i:02d}.mp4").write_bytes(first.read_bytes())
    (first.parent / "killer.mp4").write_bytes(first.read_bytes())
    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[
            f"archive=['{tmp_path}/archive']", f"memory.uri='{tmp_path}/memory'",
            "text.speech=off", "text.writing=off",
            "decode_workers=1",  # blocks of 16: the killer has neighbours
        ],
    )  # fmt: skip
    monkeypatch.setattr(index, "DecodeStage", KilledByAFile)
    report = index.index_archive(config)
    assert (report.found, report.indexed, report.failed) == (64, 63, 1)
    assert report.failures == {"worker_lost": 1}
    rows = MemoryStore.open(config.memory).videos().to_pylist()
    assert {row["attempts"] for row in rows} == {1}
    (killer,) = [row for row in rows if row["status"] != "indexed"]
    assert (Path(killer["uri"]).name, killer["error_class"]) == ("killer.mp4", "worker_lost")
