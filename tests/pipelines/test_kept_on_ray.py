"""The real command on a Ray of its own: captions that come later and moved files cost no decode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
SRT = "1\n00:00:00,500 --> 00:00:01,000\nhippopotamus\n"


def marc_index(archive: Path, memory: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.cli", "index", str(archive), "--memory", str(memory)]
    done = subprocess.run(
        [*command, "--json", "--address", "local"],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def spoil(path: Path) -> None:
    """Make a file undecodable without a change that a listing shows."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.slow
def test_later_captions_and_a_moved_file_cost_no_decode(
    tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    archive, memory = tmp_path / "archive", tmp_path / "memory"
    for i in range(3):
        clip_writer(archive / f"clip{i}.mp4", seconds=2.0, seed=i)
    assert marc_index(archive, memory)["indexed"] == 3
    store = MemoryStore.open(MemoryConfig(uri=str(memory)))
    before = {row["uri"]: row for row in store.videos().to_pylist()}
    moved = store.events_of(before[str(archive / "clip1.mp4")]["video_id"])

    (archive / "clip0.srt").write_text(SRT)
    spoil(archive / "clip0.mp4")  # a decode would fail
    (archive / "deep").mkdir()
    (archive / "clip1.mp4").rename(archive / "deep" / "renamed.mp4")
    (archive / "deep" / "renamed.srt").write_text(SRT)
    clip_writer(archive / "new.mp4", seconds=2.0, seed=9)  # so that the chain has work
    report = marc_index(archive, memory)
    assert (report["found"], report["indexed"], report["already"]) == (4, 1, 3)
    assert (report["moved"], report["texts_updated"], report["failed"]) == (1, 2, 0)

    store.refresh()
    after = {row["uri"]: row for row in store.videos().to_pylist()}
    assert str(archive / "clip1.mp4") not in after
    for new, old in (("clip0.mp4", "clip0.mp4"), ("deep/renamed.mp4", "clip1.mp4")):
        row, was = after[str(archive / new)], before[str(archive / old)]
        assert row["indexed_at"] == was["indexed_at"]
        assert store.events_of(row["video_id"])["text"].to_pylist()[0] == "hippopotamus"
    kept = store.events_of(after[str(archive / "deep" / "renamed.mp4")]["video_id"])
    for name in ("start_s", "end_s", "embedding"):
        assert kept[name].equals(moved[name])
