"""The commands that look after a memory, on a real one."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore, maintenance


def video(name: str, **values: object) -> dict[str, object]:
    return {
        "video_id": name, "uri": f"/archive/{name}.mp4", "size_bytes": 1, "version": "1",
        "folder": "/archive", "status": "indexed", "attempts": 1, "num_events": 1, "num_parts": 1,
        "cuts_fingerprint": "c", "embeddings_fingerprint": "e", "duration_s": 1.0,
        "indexed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "warnings": [],
    } | values  # fmt: skip


def event(name: str, thumbnail: bytes) -> dict[str, object]:
    return {
        "event_id": schemas.make_event_id(name, 0, 0), "video_id": name, "part": 0, "index": 0,
        "start_s": 0.0, "end_s": 1.0, "video_start_s": 0.0, "embedding": np.ones(4, np.float32),
        "thumbnail": thumbnail, "folder": "/archive",
    }  # fmt: skip


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStore:
    """Videos a and b with one event each, c failed."""
    config = MemoryConfig(uri=str(tmp_path / "memory"))
    store = MemoryStore.open(config, embedding_dim=4, create=True)
    rows = [video("a", warnings=["[red]a clock seam[/red]"]), video("b")]
    events = [event("a", b"picture-of-a"), event("b", b"picture-of-b")]
    store.publish(
        pa.Table.from_pylist(rows, schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(4)),
    )
    failed = video("c", status="failed", error_class="unreadable", error_message="no [b]header")
    store.record_failures(pa.Table.from_pylist([failed], schema=schemas.VIDEOS))
    return store


def marc(store: MemoryStore, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--memory", store.config.uri])
    assert result.exit_code == 0, result.output
    return result.stdout


def holds(store: MemoryStore, data: bytes) -> bool:
    files = (f for f in Path(store.config.uri).rglob("*") if f.is_file())
    return any(data in f.read_bytes() for f in files)


def test_delete_purges_where_told_to(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "MIN_KEEP_S", 0.2)
    counts = json.loads(marc(memory, "delete", "/archive/a.mp4", "--yes", "--json"))
    assert counts == {"videos": 1, "events": 1, "texts": 0, "features": 0}
    assert holds(memory, b"picture-of-a")
    assert "deleted 1 events" in marc(memory, "delete", "b.mp4", "--purge", "-y")
    assert not holds(memory, b"picture-of-a")
    assert not holds(memory, b"picture-of-b")


def test_damage_that_decoding_went_round_is_a_warning(memory: MemoryStore) -> None:
    memory.tables.videos.update(where="video_id = 'b'", values={"num_decode_errors": 2})
    listed = json.loads(marc(memory, "status", "--warnings", "--json"))["videos_with_warnings"]
    said = {row["uri"]: row["warnings"] for row in listed}
    assert said["/archive/b.mp4"] == ["2 damaged packets could not be decoded and were left out"]
    assert said["/archive/a.mp4"] == ["[red]a clock seam[/red]"]


def test_optimize_purges_and_removes_orphans(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MIN_KEEP_S", 0.2)
    memory.tables.videos.delete("video_id = 'a'")  # as a writer leaves it that dies half-way
    assert "optimized" in marc(memory, "optimize")
    assert holds(memory, b"picture-of-a")
    assert "1 orphaned events" in marc(memory, "optimize", "--orphans", "--purge")
    assert not holds(memory, b"picture-of-a")
    assert holds(memory, b"picture-of-b")
    assert json.loads(marc(memory, "optimize", "--json"))["orphans"] == {}


def test_nothing_is_deleted_unasked(memory: MemoryStore) -> None:
    assert json.loads(marc(memory, "delete", "a.mp4", "--dry-run", "--json")) == {}
    result = CliRunner().invoke(app, ["delete", "a.mp4", "--memory", memory.config.uri])
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert memory.get_video("a") is not None


def test_of_two_videos_of_one_name_none_is_deleted(memory: MemoryStore) -> None:
    other = video("d", uri="/other/a.mp4", folder="/other")
    memory.publish(
        pa.Table.from_pylist([other], schema=schemas.VIDEOS),
        pa.Table.from_pylist([event("d", b"")], schema=schemas.events_schema(4)),
    )
    command = ["delete", "a.mp4", "--yes", "--memory", memory.config.uri]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "2 videos called 'a.mp4'" in said
    assert "/archive/a.mp4" in said
    assert "/other/a.mp4" in said


def test_what_cannot_be_deleted_is_told_where_names_are_listed(memory: MemoryStore) -> None:
    result = CliRunner().invoke(app, ["delete", "nope", "--memory", memory.config.uri])
    assert result.exit_code == 2
    assert "`marc videos` lists what it holds" in " ".join(result.stderr.split())
