"""The application on Ray Serve: answers over HTTP, full queues, readers who leave, killed
replicas."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from typer.testing import CliRunner

from jobs.cli import app as marc
from marc_core.errors import ConfigError
from serving.config import (
    LimitConfig,
    ReplicaConfig,
    RetentionConfig,
    ServeConfig,
    UploadConfig,
    WeightsConfig,
    method_of,
)
from serving.retriever import MemoryRetriever
from serving.weights import WeightsFile
from tests.marc_core.memories import world_archive
from tests.serving.test_dashboard import check, exported

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ASK: Any = {"model": "marc", "messages": [{"role": "user", "content": "What colour is it?"}]}
LONG: Any = ASK | {"n": 12, "temperature": 1.9, "max_tokens": 60}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def serve_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def address(ray_cluster: None, small_memory: Path, serve_folder: Path) -> Iterator[str]:
    from ray import serve

    from serving.app import application

    folder = serve_folder
    shutil.copytree(small_memory / "runs" / "memory", folder / "memory")
    config = ServeConfig(
        memory=str(folder / "memory"),
        uploads=UploadConfig(folder=str(folder / "uploads")),
        port=free_port(),
        student=ReplicaConfig(num_cpus=0.2, max_ongoing=2, max_queued=2),
        limits=LimitConfig(deadline_s=150, search_deadline_s=100),
        retention=RetentionConfig(uploads_days=30, every_s=0.5),
        weights=WeightsConfig(file=str(folder / "weights.json"), look_s=0.2),
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": config.host, "port": config.port})
    serve.run(application(config), name="marc", route_prefix="/")
    yield f"http://{config.host}:{config.port}"
    serve.shutdown()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def client(address: str, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{address}/v1", api_key="none", **{"max_retries": 0, "timeout": 200} | more
    )


def under_way(address: str) -> int:
    text = httpx2.get(f"{address}/metrics", timeout=60).text
    (line,) = (line for line in text.splitlines() if line.startswith("marc_under_way "))
    return int(float(line.split()[1])) - 1  # the one that asks


def replica_of(deployment: str) -> Any:
    import ray

    names = ray.util.list_named_actors(all_namespaces=True)
    (name,) = (n["name"] for n in names if f"marc#{deployment}#" in n["name"])
    return ray.get_actor(name, namespace="serve")


def test_an_answer_and_a_stream_over_http(address: str, retriever: MemoryRetriever) -> None:
    ai = client(address)
    own = retriever.session.ask("What colour is it?").answer
    found = ai.chat.completions.create(**ASK)
    assert found.choices[0].message.content == own.text
    chunks = list(ai.chat.completions.create(stream=True, **ASK))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == own.text
    ids = [c["event_id"] for c in chunks[-1].model_extra["marc"]["citations"]]
    assert ids == [c.event_id for c in own.citations]
    assert httpx2.get(f"{address}/ready", timeout=60).status_code == 200


def test_errors_cross_the_processes(address: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="white space"):
        client(address).chat.completions.create(
            model="marc", messages=[{"role": "user", "content": " "}]
        )
    response = httpx2.get(f"{address}/v1/events/no", headers={"X-Request-Id": "mine"}, timeout=60)
    assert response.status_code == 404
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert response.headers["x-content-type-options"] == "nosniff"


def logged_by(request_id: str) -> set[str]:
    """Return who has logged something of a request: the parts of the application."""
    import ray

    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    found = set()
    for file in folder.glob("worker-*.err"):
        for line in file.read_text(errors="replace").splitlines():
            if f'"request_id": "{request_id}"' in line:
                told = json.loads(line)
                found.add(told.get("part", told["message"]))
    return found


def test_every_part_logs_under_the_requests_id(address: str) -> None:
    headers = {"X-Request-Id": "seen-everywhere"}
    httpx2.post(f"{address}/v1/chat/completions", json=ASK, headers=headers, timeout=100)
    deadline = time.monotonic() + 10
    while logged_by("seen-everywhere") != {"request", "retriever", "student"}:
        assert time.monotonic() < deadline, logged_by("seen-everywhere")
        time.sleep(0.1)


@pytest.mark.slow
def test_the_dashboards_queries_meet_ray_serves_metrics(address: str) -> None:
    import ray

    client(address).chat.completions.create(**ASK)
    port = ray.nodes()[0]["MetricsExportPort"]

    def every_one_is_there() -> bool:
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        try:
            return check("ray_serve_", exported(text)) >= 3
        except AssertionError:
            return False

    until(every_one_is_there, 120)


def test_a_full_queue_answers_at_once(address: str) -> None:
    def ask(_: int) -> tuple[int, str | None]:
        response = httpx2.post(f"{address}/v1/chat/completions", json=LONG, timeout=200)
        return response.status_code, response.headers.get("retry-after")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert set(found) == {(200, None), (503, "1")}
    assert client(address).chat.completions.create(**ASK).choices  # and then as before


def test_a_reader_who_leaves_is_forgotten(address: str) -> None:
    stream = client(address).chat.completions.create(stream=True, **LONG)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 30
    while under_way(address):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_upload_is_indexed_found_and_deleted(address: str, tmp_path: Path) -> None:
    world_archive(tmp_path, seeds=(7,))
    http = httpx2.Client(base_url=address, timeout=100, headers={"X-Request-Id": "uploading"})
    (clip,) = tmp_path.glob("*.mp4")
    job = http.post("/v1/uploads?name=new.mp4", content=clip.read_bytes()).json()
    deadline = time.monotonic() + 150
    while job["status"] not in ("done", "failed"):
        assert time.monotonic() < deadline, job
        time.sleep(0.5)
        job = http.get(f"/v1/jobs/{job['job_id']}").json()
    assert job["progress"] == {"done": 1, "failed": 0, "total": 1}, job
    assert "job" in logged_by("uploading")
    (video_id,) = job["video_ids"]
    time.sleep(1.1)  # an open table looks for newer versions once a second
    video = http.get(f"/v1/videos/{video_id}").json()
    assert (video["name"], video["uploaded"]) == ("new.mp4", True)
    only = {"text": "x", "filter": {"video_ids": [video_id]}}
    assert http.post("/v1/search", json=only).json()["data"]
    ask = ASK | {"marc": {"filter": {"video_ids": [video_id]}}}
    answer = http.post("/v1/chat/completions", json=ask).json()
    assert {c["video_id"] for c in answer["marc"]["citations"]} == {video_id}
    part = http.get(video["media_url"], headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, clip.read_bytes()[:10])

    gone = http.delete(f"/v1/videos/{video_id}").json()
    assert gone["file_deleted"]
    assert gone["rows"]["events"] == video["num_events"]
    assert not Path(video["uri"]).exists()
    for path in ("", "/media", "/events"):
        assert http.get(f"/v1/videos/{video_id}{path}").status_code == 404
    assert http.post("/v1/search", json=only).json()["data"] == []
    assert http.get("/v1/videos").json()["total"] == 3


@pytest.mark.slow
def test_an_upload_goes_by_itself_with_all_that_is_of_it(address: str, tmp_path: Path) -> None:
    world_archive(tmp_path, seeds=(8,))
    http = httpx2.Client(base_url=address, timeout=100)
    (clip,) = tmp_path.glob("*.mp4")
    job = http.post("/v1/uploads?name=old.mp4", content=clip.read_bytes()).json()
    until(lambda: http.get(f"/v1/jobs/{job['job_id']}").json()["status"] == "done", 150)
    time.sleep(1.1)
    (video,) = http.get("/v1/videos?name=old.mp4").json()["data"]
    path = Path(video["uri"])
    os.utime(path, (time.time() - 40 * 86_400,) * 2)
    until(lambda: not path.exists())
    until(lambda: http.get(f"/v1/videos/{video['video_id']}").status_code == 404)
    assert http.get(video["thumbnail_url"]).status_code == 404
    only = {"text": "x", "filter": {"video_ids": [video["video_id"]]}}
    assert http.post("/v1/search", json=only).json()["data"] == []
    assert http.get("/v1/videos").json()["total"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("deployment", ["student", "retriever"])
def test_a_killed_replica_costs_a_retry_not_a_request(address: str, deployment: str) -> None:
    import ray

    actor = replica_of(deployment)
    pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    assert client(address).chat.completions.create(**ASK).choices


@pytest.mark.slow
def test_new_weights_under_load_cost_no_request(address: str, serve_folder: Path) -> None:
    from marc_core.models.student_files import StudentFiles

    command = ["--memory", str(serve_folder / "memory")]
    file = serve_folder / "weights.json"
    config = ServeConfig(memory=str(serve_folder / "memory"))
    other = serve_folder / "checkpoint"
    shutil.copytree(StudentFiles(method_of(config).student).directory, other)
    asking, found = True, []

    def ask() -> None:
        ai = client(address)
        while asking:
            answer = ai.chat.completions.create(**ASK)
            assert answer.choices[0].message.content
            found.append(answer.model_extra["marc"]["weights_version"])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(ask) for _ in range(2)]
        try:
            more = [*command, f"weights.file={file}"]
            assert CliRunner().invoke(marc, ["reload", str(other), *more]).exit_code == 0
            until(lambda: found and found[-1] == 1)
            WeightsFile(file, method_of(config).student).want(str(serve_folder / "nowhere"))
            until(lambda: httpx2.get(f"{address}/ready", timeout=60).json()["weights_problem"])
        finally:
            asking = False
        for reader in readers:
            reader.result()  # raises where a request has failed
    assert sorted(found) == found
    ready = httpx2.get(f"{address}/ready", timeout=60).json()
    assert (ready["status"], ready["weights_version"]) == ("ok", 1)
    assert "weights 2 are refused" in ready["weights_problem"]
    assert str(serve_folder) not in ready["weights_problem"]


def test_a_deploy_file_with_an_unknown_key_builds_nothing() -> None:
    from serving.app import build

    with pytest.raises(ConfigError, match="studnet"):
        build({"memory": "runs/memory", "studnet": {"max_replicas": 2}})
