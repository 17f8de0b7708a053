"""Recordings go together with all that was made of them; nothing else does."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from pathlib import Path

import pytest

from marc_core.config import MemoryConfig
from marc_core.live.config import WatchConfig
from marc_core.live.retention import collect
from marc_core.live.spool import Spool
from marc_core.memory import MemoryStore
from marc_core.memory.gaps import Gap
from marc_core.memory.retention import kept_videos
from marc_core.types import VideoSource

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


@pytest.fixture
def recorded(small_memory: Path, tmp_path: Path) -> tuple[MemoryStore, list[Path]]:
    """A memory of three videos, two of which are recordings of `gate`, 9 and 1 days old."""
    shutil.copytree(small_memory / "runs" / "memory", tmp_path / "memory")
    store = MemoryStore.open(MemoryConfig(uri=str(tmp_path / "memory")))
    spool = Spool(str(tmp_path / "live"), "gate", "gate", ())
    spool.recorded_until_s = NOW.timestamp()
    paths = []
    for row, days in zip(store.videos().to_pylist(), (9, 1), strict=False):
        path = spool.close(_opened(spool, NOW - dt.timedelta(days=days)))
        shutil.copy(row["uri"], path)
        os.utime(path, (spool.start_of(path),) * 2)
        stat = path.stat()
        moved = VideoSource(
            video_id=f"recording-{days}", uri=str(path), size_bytes=stat.st_size,
            version=str(stat.st_mtime_ns),
        )  # fmt: skip
        assert store.rename_videos({row["video_id"]: moved})
        paths.append(path)
    return store, paths


def _opened(spool: Spool, moment: dt.datetime) -> Path:
    path = spool.open_path(moment.timestamp(), "pdt")
    path.touch()
    return path


def test_a_full_disk_has_room_before_the_rows_go(
    recorded: tuple[MemoryStore, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (old, _) = recorded
    config = WatchConfig(folder=str(tmp_path / "live"), keep_days=7)
    gone = old.with_name(f".gone-{old.name}")

    def full(_: object) -> None:
        assert gone.stat().st_size == 0
        raise OSError("no space left")

    with monkeypatch.context() as context:
        context.setattr(store, "delete_videos", full)
        with pytest.raises(OSError, match="no space"):
            collect(store, config, NOW)
    assert collect(store, config, NOW)["files"] == 1
    assert not gone.exists()


def names(store: MemoryStore) -> list[str]:
    return [os.path.basename(uri) for uri in store.videos(columns=["uri"])["uri"].to_pylist()]


def test_days(recorded: tuple[MemoryStore, list[Path]], tmp_path: Path) -> None:
    store, (old, new) = recorded
    store.record_gaps([Gap("gate", NOW - dt.timedelta(days=8), NOW - dt.timedelta(days=7.5), "")])
    store.record_gaps([Gap("gate", NOW - dt.timedelta(days=1), None, "")])
    config = WatchConfig(folder=str(tmp_path / "live"), keep_days=7)
    counts = collect(store, config, NOW)
    assert (counts["files"], counts["videos"], counts["gaps"]) == (1, 1, 1)
    assert counts["events"] > 0
    assert counts["features"] > 0
    assert not old.exists()
    assert not old.with_suffix(".json").exists()
    assert new.exists()
    assert new.name in names(store)
    assert len(names(store)) == 2
    assert [gap.until for gap in store.gaps()] == [None]
    assert collect(store, config, NOW)["files"] == 0


def test_bytes_count_features_too(recorded: tuple[MemoryStore, list[Path]], tmp_path: Path) -> None:
    store, (old, new) = recorded
    derived = {kept.key: kept.size_bytes for kept in kept_videos(store.tables)[0]}
    size = old.stat().st_size + new.stat().st_size
    size += derived["recording-9"] + derived["recording-1"]
    folder = str(tmp_path / "live")
    assert collect(store, WatchConfig(folder=folder, keep_bytes=size), NOW)["files"] == 0
    assert collect(store, WatchConfig(folder=folder, keep_bytes=size - 1), NOW)["files"] == 1
    assert new.exists()


def test_a_collection_that_was_killed_is_finished(
    recorded: tuple[MemoryStore, list[Path]], tmp_path: Path
) -> None:
    store, (old, _) = recorded
    old.rename(old.with_name(f".gone-{old.name}"))
    config = WatchConfig(folder=str(tmp_path / "live"))
    counts = collect(store, config, NOW)
    assert (counts["files"], counts["videos"]) == (1, 1)
    assert not list(tmp_path.rglob(".gone*"))
