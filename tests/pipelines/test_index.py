"""The indexing chain on a real Ray, real videos and a real LanceDB."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.memory import MemoryStore
from pipelines.index import index_archive, pool_sizes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

BAD = {"empty.mp4", "text.mp4", "half.mp4", "audio.mp4"}


def configure(archive: Path, memory: Path, *overrides: str) -> IndexConfig:
    return load_config(
        IndexConfig,
        preset="tiny",
        overrides=[f"archive=['{archive}']", f"memory.uri='{memory}'", *overrides],
    )


def test_good_and_bad_files_all_end_as_rows(archive: Path, tmp_path: Path) -> None:
    config = configure(archive, tmp_path / "memory", "memory.store_features=true")
    seen = []
    report = index_archive(config, lambda *counts: seen.append(counts))
    assert (report.found, report.indexed, report.failed) == (8, 4, 4)
    assert seen[-1] == (8, 4, 8)

    store = MemoryStore.open(config.memory)
    videos = {Path(row["uri"]).name: row for row in store.videos().to_pylist()}
    assert {name for name, row in videos.items() if row["status"] == "failed"} == BAD
    assert all(row["error_message"] for name, row in videos.items() if name in BAD)
    for i in range(4):
        row = videos[f"good{i}.mp4"]
        assert (row["num_frames"], row["width"], row["height"]) == (40, 160, 96)
        events = store.events_of(row["video_id"]).to_pylist()
        assert len(events) == row["num_events"] == 2
        starts_and_ends = [(e["start_s"], e["end_s"]) for e in events]
        assert np.allclose(starts_and_ends, [(0.0, 2.0), (2.0, 4.0)], atol=0.11)
        assert all(np.isclose(np.linalg.norm(e["embedding"]), 1, atol=1e-5) for e in events)
        assert all(e["thumbnail"].startswith(b"\xff\xd8") for e in events)

    again = index_archive(config)
    assert (again.skipped, again.indexed, again.failed) == (8, 0, 0)

    os.utime(archive / "good1.mp4", ns=(10**18, 10**18))
    third = index_archive(config)
    assert (third.skipped, third.indexed) == (7, 1)
    uris = [row["uri"] for row in MemoryStore.open(config.memory).videos().to_pylist()]
    assert len(uris) == len(set(uris)) == 8


def test_a_changed_setting_indexes_again(archive: Path, tmp_path: Path) -> None:
    index_archive(configure(archive, tmp_path / "memory"))
    report = index_archive(configure(archive, tmp_path / "memory", "events.max_event_s=2.0"))
    assert (report.skipped, report.indexed, report.failed) == (0, 4, 4)
    assert len(MemoryStore.open(configure(archive, tmp_path / "memory").memory).videos()) == 8


def test_pools_leave_room_for_encoder_and_writer() -> None:
    decoders, encoders, gpus = pool_sizes(IndexConfig(), 100)
    assert (decoders, encoders, gpus) == (2, 1, 0.0)
    assert decoders * IndexConfig().decode_cpus + 0.1 * encoders + 0.1 <= 2
    assert pool_sizes(IndexConfig(), 1)[0] == 1
