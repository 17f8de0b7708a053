"""What is too old or too much goes with all that is of it; the rest stays, and what is not ours."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from jobs.cli import app as marc
from jobs.serve import with_places
from marc_core import schemas
from marc_core.config import AnswerConfig, MemoryConfig, load_config
from marc_core.errors import ConfigError
from marc_core.memory import MemoryStore
from marc_core.memory.retention import Kept, to_go
from serving import indexer as module
from serving.app import application
from serving.config import MediaConfig, RetentionConfig, ServeConfig, UploadConfig
from serving.gateway import Gateway, build_app
from serving.indexer import Indexer
from serving.retention import UNFINISHED_S, carry_out, make_plan
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from serving.uploads import Uploads
from tests.serving.conftest import logged

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def days(count: float) -> dt.datetime:
    return NOW - dt.timedelta(days=count)


@pytest.mark.parametrize(
    ("keep_days", "keep_bytes", "gone"),
    [
        (0, 0, ""), (100, 0, ""), (5, 0, "a"), (1.5, 0, "ab"), (0, 60, ""), (0, 59, "a"),
        (0, 30, "ab"), (0, 1, "abc"), (5, 50, "a"), (5, 49, "ab"),
    ],
)  # fmt: skip
def test_the_old_go_and_then_the_oldest_of_too_much(
    keep_days: float, keep_bytes: int, gone: str
) -> None:
    kept = [
        Kept(key="c", since=days(1), size_bytes=30),
        Kept(key="a", since=days(9), size_bytes=10),
        Kept(key="b", since=days(2), size_bytes=20),
    ]
    assert "".join(to_go(kept, NOW, keep_days=keep_days, keep_bytes=keep_bytes)) == gone


# A memory of one registered video and one upload, and another upload that waits


Place = tuple[MemoryStore, Uploads, ServeConfig]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    config = ServeConfig(
        memory=str(tmp_path / "memory"),
        uploads=UploadConfig(folder=str(tmp_path / "up")),
        media=MediaConfig(cache_folder=str(tmp_path / "copies")),
    )
    uploads = Uploads(config.uploads)
    registered = tmp_path / "registered.mp4"
    registered.write_bytes(b"r" * 10)
    upload = finished(uploads, "1", days(20))
    finished(uploads, "2", days(30))
    waiting = finished(uploads, "3", days(40))
    uploads._queue("3" * 32, "upload", "clip.mp4", waiting)
    store = MemoryStore.open(
        MemoryConfig(uri=config.memory, refresh_s=0), embedding_dim=4, create=True
    )
    for name, path, age in (("r", registered, 50), ("u", upload, 20)):
        video = {
            "video_id": name, "uri": str(path), "size_bytes": 10, "version": "1",
            "folder": str(path.parent), "status": "indexed", "attempts": 1, "num_events": 1,
            "num_parts": 1, "cuts_fingerprint": "c", "embeddings_fingerprint": "e",
            "duration_s": 1.0, "indexed_at": days(age), "warnings": [],
        }  # fmt: skip
        event = {
            "event_id": schemas.make_event_id(name, 0, 0), "video_id": name, "part": 0,
            "index": 0, "start_s": 0.0, "end_s": 1.0, "video_start_s": 0.0,
            "embedding": np.ones(4, np.float32), "thumbnail": b"picture", "folder": "/",
        }  # fmt: skip
        store.publish(
            pa.Table.from_pylist([video], schema=schemas.VIDEOS),
            pa.Table.from_pylist([event], schema=schemas.events_schema(4)),
        )
        (tmp_path / "copies").mkdir(exist_ok=True)
        (tmp_path / "copies" / f"{name}.video").write_bytes(b"copy")
    return store, uploads, config


def finished(uploads: Uploads, digit: str, when: dt.datetime) -> Path:
    path = uploads.files / (digit * 32) / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(b"u" * 100)
    os.utime(path, (when.timestamp(),) * 2)
    return path


def what_is_left(place: Place) -> tuple[set[str], set[str], set[str]]:
    """Ids in the memory, digits of the uploads, copies."""
    store, uploads, config = place
    ids = {name: set(t.search().select(["video_id"]).to_arrow()["video_id"].to_pylist())
           for name, t in store.tables.all().items() if name in ("videos", "events")}  # fmt: skip
    assert ids["videos"] == ids["events"]
    copies = {f.stem for f in Path(config.media.cache_folder).iterdir()}
    return ids["videos"], {f.parent.name[0] for f in uploads.finished()}, copies


def collected(place: Place, **limits: Any) -> tuple[set[str], set[str], set[str]]:
    store, uploads, config = place
    config = replace(config, retention=RetentionConfig(**limits))
    plan = make_plan(store, uploads, config, NOW)
    carry_out(plan, store, uploads, config)
    again = make_plan(store, uploads, config, NOW)
    assert again.leaving == []
    return what_is_left(place)


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, ({"r", "u"}, {"1", "2", "3"}, {"r", "u"})),
        ({"memory_days": 30}, ({"u"}, {"1", "2", "3"}, {"u"})),
        ({"memory_days": 10}, (set(), {"2", "3"}, set())),
        ({"memory_bytes": 16}, ({"u"}, {"1", "2", "3"}, {"u"})),
        ({"uploads_days": 25}, ({"r", "u"}, {"1", "3"}, {"r", "u"})),
        ({"uploads_days": 5}, ({"r"}, {"3"}, {"r"})),
        ({"uploads_bytes": 100}, ({"r", "u"}, {"1", "3"}, {"r", "u"})),
    ],
)
def test_a_video_goes_with_all_that_is_of_it(
    place: Place, limits: dict[str, Any], left: Any, tmp_path: Path
) -> None:
    assert collected(place, **limits) == left
    assert (tmp_path / "registered.mp4").exists()


def test_uploads_that_were_broken_off_go_and_others_do_not(place: Place) -> None:
    store, uploads, config = place
    for digit, age_s in (("8", UNFINISHED_S + 5), ("9", 5)):
        part = uploads.files / (digit * 32) / f".{digit}.part"
        part.parent.mkdir()
        part.touch()
        for path in (part, part.parent):
            os.utime(path, (time.time() - age_s,) * 2)
    plan = make_plan(store, uploads, config, NOW)
    assert [folder.name[0] for folder in plan.unfinished] == ["8"]
    carry_out(plan, store, uploads, config)
    assert {folder.name[0] for folder in uploads.files.iterdir()} == {"1", "2", "3", "9"}


def test_limits_need_somebody_who_keeps_them() -> None:
    limited = ServeConfig(retention=RetentionConfig(memory_days=1))
    with pytest.raises(ConfigError, match=r"uploads\.folder"):
        application(limited)
    with_places(limited).check_retention()  # `marc serve` names a folder by itself


@pytest.mark.slow
def test_the_command_shows_first_and_removes_when_told(place: Place) -> None:
    store, _, config = place
    store.record_run("encoder: {}\n")

    def run(*more: str) -> Any:
        command = ["gc", "--memory", config.memory, "--uploads", config.uploads.folder,
                   f"media.cache_folder={config.media.cache_folder}",
                   "retention.memory_days=1", *more]  # fmt: skip
        return CliRunner().invoke(marc, command)

    before = what_is_left(place)
    dry = run("--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    shown = json.loads(dry.stdout)
    assert {one["video_id"] for one in shown["leaving"]} == {"r", "u"}
    assert what_is_left(place) == before
    assert "--yes" in run().output  # nobody there to ask
    assert what_is_left(place) == before
    done = json.loads(run("--yes", "--json").stdout)
    assert done["deleted"] == {"videos": 2, "events": 2, "texts": 0, "features": 0, "files": 1}
    assert what_is_left(place) == (set(), {"2", "3"}, set())


def test_the_indexer_collects_between_jobs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store, uploads, config = place
    purged: list[Any] = []
    wanted = type("Purger", (), {"want": lambda _: purged.append(1)})
    monkeypatch.setattr(module, "Purger", lambda _: wanted())
    uploads.update("3" * 32, status="done")
    config = replace(config, retention=RetentionConfig(memory_days=1, every_s=0.05))
    method = load_config(AnswerConfig, preset="tiny", overrides=[f"memory.uri={config.memory}"])
    with logged() as lines:
        worker = Indexer(config, method)
        deadline = time.monotonic() + 20
        while store.tables.videos.count_rows() or not purged:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker.close()
    assert {line["video_id"] for line in lines() if line["message"] == "goes"} == {"r", "u"}
    assert len(purged) == 1


def test_of_two_indexers_of_one_folder_the_second_waits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uploads, config = place
    done: list[tuple[Any, str]] = []

    def work(self: Indexer, job: dict[str, Any]) -> None:
        self.uploads.update(job["job_id"], status="done")
        done.append((self, job["job_id"]))

    monkeypatch.setattr(Indexer, "_work", work)
    method = load_config(AnswerConfig, preset="tiny", overrides=[f"memory.uri={config.memory}"])

    def until(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with logged() as lines:
        first = Indexer(config, method)
        until(lambda: done)
        uploads.update("3" * 32, status="running")
        second = Indexer(config, method)
        until(lambda: any("another indexer" in line["message"] for line in lines()))
        assert uploads.job("3" * 32).status == "running"
        first.close()
        until(lambda: (second, "3" * 32) in done)
        second.close()
    assert {worker for worker, _ in done[:-1]} == {first}


def test_gateways_drop_copies_that_are_old_or_of_no_video(
    serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent, tmp_path: Path,
    clip_writer: Callable[..., Path],
) -> None:  # fmt: skip
    config = replace(serve_config, media=MediaConfig(cache_folder=str(tmp_path), keep_days=1))
    gateway = Gateway(config=config, retriever=retriever, student=student)
    known = [v["video_id"] for v in TestClient(build_app(gateway), base_url="http://127.0.0.1")
             .get("/v1/videos").json()["data"]]  # fmt: skip
    for name in (*known, "deleted"):
        (tmp_path / f"{name}.video").touch()
    os.utime(tmp_path / f"{known[0]}.video", (time.time() - 100_000,) * 2)
    asyncio.run(gateway.sweep())
    assert {f.stem for f in tmp_path.glob("*.video")} == set(known[1:])
    shutil.rmtree(tmp_path)
