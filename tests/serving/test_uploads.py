"""Uploads and registrations: what is taken, what is refused, and a queue that survives."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from marc_core.config import AnswerConfig, IndexConfig, load_config
from marc_core.question import EventFilter
from serving.config import LimitConfig, ServeConfig, UploadConfig
from serving.errors import ApiError
from serving.indexer import Indexer, index_config
from serving.keys import KeyFile, new_key
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from serving.uploads import Uploads, file_name
from tests.serving.conftest import BASE, logged, make_app

CLIP = b"not decoded here" * 100


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    root = tmp_path / "videos"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a.mp4").write_bytes(CLIP)
    (tmp_path / "secret.mp4").write_bytes(CLIP)
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    return Uploads(
        UploadConfig(
            folder=str(tmp_path / "up"), roots=(str(root), "s3://bucket/cams"),
            max_bytes=10_000, total_bytes=15_000, max_waiting=3,
        )
    )  # fmt: skip


@pytest.fixture
def up(
    uploads: Uploads, serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> TestClient:
    limits = LimitConfig(body_bytes=1000)
    config = dataclasses.replace(serve_config, uploads=uploads.config, limits=limits)
    return TestClient(
        make_app(config, retriever, student), base_url=BASE, raise_server_exceptions=False
    )


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def files_of(uploads: Uploads) -> list[Path]:
    return [path for path in uploads.files.rglob("*") if path.is_file()]


def test_an_upload_is_kept_and_queued(up: TestClient, uploads: Uploads) -> None:
    response = up.post("/v1/uploads?name=my clip.MP4", content=iter([CLIP[:700], CLIP[700:]]))
    assert response.status_code == 202
    job = response.json()
    assert (job["status"], job["name"], job["kind"]) == ("queued", "my clip.MP4", "upload")
    (path,) = files_of(uploads)
    assert path.read_bytes() == CLIP
    assert up.get(f"/v1/jobs/{job['job_id']}").json() == job
    assert up.get("/v1/jobs").json()["data"] == [job]
    assert str(uploads.files) not in response.text


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/clip.mp4", "clip.mp4"),
        ("C:\\videos\\clip.mkv", "clip.mkv"),
        ("...mp4.mp4", "mp4.mp4"),
        ("a\x1b[31m\nb.mp4", "a[31mb.mp4"),
        ("clip#1.mp4", "clip_1.mp4"),
        ("x" * 400 + ".webm", "x" * 200 + ".webm"),
    ],
)
def test_a_name_is_one_components(name: str, kept: str) -> None:
    assert file_name(name) == kept


@pytest.mark.parametrize("name", ["page.html", "mp4", ".mp4", "a.mp4/", "a.svg", "clip.mp4.exe"])
def test_a_name_that_no_video_has_is_refused(up: TestClient, uploads: Uploads, name: str) -> None:
    assert code(up.post("/v1/uploads", params={"name": name}, content=CLIP)) == (
        415, "unsupported_type"
    )  # fmt: skip
    assert files_of(uploads) == []


def test_too_much_is_refused_and_nothing_stays(up: TestClient, uploads: Uploads) -> None:
    large = b"x" * 10_001
    for body in (large, iter([large[:9000], large[9000:]])):
        assert code(up.post("/v1/uploads?name=a.mp4", content=body)) == (413, "too_large")
    assert code(up.post("/v1/uploads?name=a.mp4", content=b"")) == (422, "invalid_value")
    assert files_of(uploads) == []
    assert list(uploads.files.iterdir()) == []
    assert up.post("/v1/uploads?name=a.mp4", content=large[:9000]).status_code == 202
    for body in (large[:9000], iter([large[:5000], large[:4000]])):
        assert code(up.post("/v1/uploads?name=b.mp4", content=body)) == (507, "storage_full")
    assert len(files_of(uploads)) == 1
    assert up.post("/v1/uploads?name=c.mp4", content=iter([large[:6000]])).status_code == 202


async def chunks_of(sizes: list[int], gate: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the first chunk, and the others once the gate is open."""
    for size in sizes:
        yield b"x" * size
        await gate.wait()


@pytest.mark.parametrize("said", [True, False])
def test_uploads_that_come_at_once_never_take_more_than_they_may(
    uploads: Uploads, said: bool
) -> None:
    most_held = 0

    async def all_at_once() -> list[Any]:
        nonlocal most_held
        gate = asyncio.Event()
        several = [Uploads(uploads.config) for _ in range(3)]  # as in three processes
        bodies = [[1000, 4000, 4000], [1000, 3000, 2000], [1000, 5000]]
        tasks = [
            asyncio.create_task(
                one.receive(f"{i}.mp4", sum(b) if said else None, chunks_of(b, gate), 5)
            )
            for i, (one, b) in enumerate(zip(several, bodies, strict=True))
        ]
        await asyncio.sleep(0.1)
        gate.set()
        while not all(task.done() for task in tasks):
            most_held = max(most_held, uploads.room.held())
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(all_at_once())
    kept = [one for one in found if not isinstance(one, Exception)]
    refused = [one.code for one in found if isinstance(one, ApiError)]
    assert len(kept) >= 1
    assert len(refused) == 3 - len(kept) >= 1
    assert set(refused) == {"storage_full"}
    assert most_held <= uploads.config.total_bytes
    assert len(files_of(uploads)) == len(kept) == len(uploads.every_job())
    assert uploads.room.held() == sum(f.stat().st_size for f in files_of(uploads))


def test_an_upload_that_drips_ends(uploads: Uploads) -> None:
    slow = Uploads(dataclasses.replace(uploads.config, deadline_s=0.2))

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    with pytest.raises(ApiError, match=r"more than 0\.2 s") as caught:
        asyncio.run(slow.receive("a.mp4", 9000, drip(), 5))
    assert (caught.value.status, caught.value.code) == (408, "stalled")
    assert list(uploads.files.iterdir()) == []


def test_what_was_reserved_in_vain_is_given_back(uploads: Uploads) -> None:
    async def short() -> None:
        gate = asyncio.Event()
        gate.set()
        await uploads.receive("a.mp4", 9000, chunks_of([100], gate), 5)

    asyncio.run(short())
    (path,) = files_of(uploads)
    assert path.read_bytes() == b"x" * 100
    assert uploads.room.held() == 100


def test_a_full_disk_is_said(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("serving.uploads.os.fsync", full)

    async def receive() -> None:
        gate = asyncio.Event()
        gate.set()
        await uploads.receive("a.mp4", None, chunks_of([100], gate), 5)

    with pytest.raises(ApiError, match="No space left") as caught:
        asyncio.run(receive())
    assert (caught.value.status, caught.value.code) == (507, "storage_full")
    assert list(uploads.files.iterdir()) == []
    with pytest.raises(ApiError, match="No space left"):
        uploads.register("s3://bucket/cams/1")
    assert list(uploads.jobs.iterdir()) == []


def test_jobs_wait_where_the_disk_is_full_and_go_on_when_it_is_not(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, full = uploads.register("s3://bucket/cams/1"), [True]

    def fsync(_: int) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("serving.uploads.os.fsync", fsync)
    monkeypatch.setattr("serving.indexer.UNWRITTEN_S", 0.02)
    monkeypatch.setattr(Indexer, "_index", lambda *_: {"status": "done"})
    monkeypatch.setattr(Indexer, "_collect", lambda _: None)
    with logged() as lines:
        worker = Indexer(ServeConfig(uploads=uploads.config), AnswerConfig())
        until(lambda: sum("cannot be written" in line["message"] for line in lines()) >= 2)
        worker.health()
        assert [path.suffix for path in uploads.jobs.iterdir()] == [".json"]
        full[0] = False
        until(lambda: uploads.job(job.job_id).status == "done")
    worker.close()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_uploads_under_way_wait_for_the_indexer_too(uploads: Uploads) -> None:
    async def run() -> None:
        gate = asyncio.Event()
        tasks = [
            asyncio.create_task(uploads.receive(f"{i}.mp4", None, chunks_of([10, 10], gate), 5))
            for i in range(3)
        ]
        await asyncio.sleep(0.1)
        with pytest.raises(ApiError, match="3 jobs wait"):
            await uploads.receive("d.mp4", None, chunks_of([10], gate), 5)
        with pytest.raises(ApiError, match="3 jobs wait"):
            await asyncio.to_thread(uploads.register, "s3://bucket/cams/1")
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_full_queue_says_when_to_come_again(up: TestClient) -> None:
    for _ in range(3):
        assert up.post("/v1/uploads?name=a.mp4", content=b"x").status_code == 202
    response = up.post("/v1/uploads?name=a.mp4", content=b"x")
    assert code(response) == (503, "overloaded")
    assert response.headers["retry-after"] == "60"


def test_addresses_below_a_root_may_be_registered(uploads: Uploads, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    assert uploads.register(f"{root}/in/a.mp4").name == "a.mp4"
    assert uploads.register(f"{root}/in").name == "in"
    assert uploads.register("s3://bucket/cams/gate").kind == "register"


@pytest.mark.parametrize(
    "address",
    [
        "{tmp}/secret.mp4", "{tmp}/videos/../secret.mp4", "{tmp}/videos/link.mp4", "{tmp}/videosx",
        "file://{tmp}/videos/in/a.mp4", "videos/in/a.mp4", "~/x.mp4", "s3://bucket/other",
        "s3://bucket/cams/../other", "s3://bucket/camsx", "s3://other/cams", "http://127.0.0.1/a.mp4",
        "http://169.254.169.254/latest", "https://example.org/a.mp4", "gs://bucket/cams", "/", "",
        "{tmp}/videos/in\x00.mp4",
    ],
)  # fmt: skip
def test_other_addresses_are_not(
    up: TestClient, uploads: Uploads, tmp_path: Path, address: str
) -> None:
    with pytest.raises(ApiError) as caught:
        uploads.register(address.format(tmp=tmp_path))
    assert (caught.value.status, caught.value.code) == (403, "root_not_allowed")
    response = up.post("/v1/videos", json={"uri": address.format(tmp=tmp_path)})
    assert response.status_code in (403, 422)
    assert uploads.every_job() == []


def test_what_was_under_way_is_taken_up_again(uploads: Uploads) -> None:
    first = uploads.register("s3://bucket/cams/1")
    second = uploads.register("s3://bucket/cams/2")
    uploads.update(first.job_id, status="running", progress={"done": 1, "failed": 0, "total": 2})
    job = uploads.next_job()
    assert job is not None
    assert job["job_id"] == second.job_id
    again = Uploads(uploads.config)
    again.take_up_again()
    job = again.next_job()
    assert job is not None
    assert (job["job_id"], job["progress"]) == (first.job_id, None)


def test_only_uploads_are_deleted_from_the_disk(uploads: Uploads, tmp_path: Path) -> None:
    folder = uploads.files / ("0" * 32)
    folder.mkdir()
    (folder / "a.mp4").write_bytes(CLIP)
    for other in (f"{tmp_path}/videos/in/a.mp4", f"{uploads.files}/../x", "s3://bucket/cams/a",
                  str(uploads.files)):  # fmt: skip
        assert not uploads.delete_file(other)
    assert uploads.delete_file(str(folder / "a.mp4"))
    assert not folder.exists()
    assert (tmp_path / "videos" / "in" / "a.mp4").exists()


def test_odd_job_ids_are_not_there(up: TestClient) -> None:
    for name in ("no", "..%2f..%2fkeys", "0" * 32, "%00"):
        assert up.get(f"/v1/jobs/{name}").status_code == 404


def test_without_a_folder_or_with_a_bound_key_nothing_is_taken(
    client: TestClient, tmp_path: Path, uploads: Uploads, serve_config: ServeConfig,
    retriever: MemoryRetriever, student: EngineStudent,
) -> None:  # fmt: skip
    assert code(client.post("/v1/uploads?name=a.mp4", content=b"x")) == (403, "uploads_disabled")
    file = KeyFile(tmp_path / "keys.json")
    key, token = new_key("bound", ("ingest",), bound=EventFilter(camera="x"))
    file.change(lambda every: every.update({key.id: key}))
    config = dataclasses.replace(serve_config, uploads=uploads.config, keys=str(file.path))
    bound = TestClient(
        make_app(config, retriever, student), base_url=BASE, raise_server_exceptions=False
    )
    headers = {"Authorization": f"Bearer {token}"}
    response = bound.post("/v1/uploads?name=a.mp4", content=b"x", headers=headers)
    assert code(response) == (403, "bound_key")
    video = client.get("/v1/videos").json()["data"][0]
    assert bound.delete(f"/v1/videos/{video['video_id']}", headers=headers).status_code == 404
    assert client.get(f"/v1/videos/{video['video_id']}").status_code == 200


def test_a_job_indexes_as_the_memory_was_indexed() -> None:
    method = load_config(AnswerConfig, preset="tiny", overrides=["events.max_event_s=30"])
    config = index_config(method, "/x/a.mp4")
    assert isinstance(config, IndexConfig)
    assert (config.archive, config.events, config.student) == (
        ("/x/a.mp4",), method.events, method.student
    )  # fmt: skip
