"""Two gateways of one application on Ray Serve: what they must count, trace and bound together."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.config import LimitConfig, ReplicaConfig, ServeConfig, TraceConfig, UploadConfig
from serving.keys import KeyFile, new_key
from tests.serving.collectors import collector
from tests.serving.test_dashboard import exported
from tests.serving.test_serve import ASK, free_port, until

pytestmark = [
    pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning"),
]  # fmt: skip
TOTAL_BYTES = 40_000
Make = Callable[..., httpx2.Client]


@pytest.fixture(scope="module")
def bodies() -> Iterator[tuple[str, list[bytes]]]:
    """A collector's address, and what it was sent."""
    with collector() as found:
        yield found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def address(
    ray_cluster: None, small_memory: Path, tmp_path_factory: pytest.TempPathFactory,
    keys: KeyFile, bodies: tuple[str, list[bytes]],
) -> Iterator[str]:  # fmt: skip
    from ray import serve

    from serving.app import application

    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(small_memory / "runs" / "memory", folder / "memory")
    keys.change(lambda every: None)
    config = ServeConfig(
        memory=str(folder / "memory"), port=free_port(), keys=str(keys.path),
        gateway=ReplicaConfig(num_cpus=0.1, min_replicas=2, max_replicas=2, max_ongoing=64),
        limits=LimitConfig(deadline_s=150, search_deadline_s=100),
        uploads=UploadConfig(folder=str(folder / "up"), total_bytes=TOTAL_BYTES),
        traces=TraceConfig(endpoint=bodies[0]),
    )  # fmt: skip
    serve.start(proxy_location="HeadOnly", http_options={"host": config.host, "port": config.port})
    serve.run(application(config), name="marc", route_prefix="/")
    yield f"http://{config.host}:{config.port}"
    serve.shutdown()


@pytest.fixture
def client(address: str, keys: KeyFile) -> Iterator[Make]:
    """Makes clients with a key of their own."""
    with ExitStack() as stack:

        def make(**limits: Any) -> httpx2.Client:
            scopes: Any = ("read", "ask", "ingest", "admin")
            key, token = new_key("someone", scopes, **limits)
            keys.change(lambda every: every.update({key.id: key}))
            time.sleep(1.2)  # a gateway looks at the keys once a second
            headers = {"Authorization": f"Bearer {token}"}
            found = httpx2.Client(base_url=address, headers=headers, timeout=120)
            return stack.enter_context(found)

        yield make


def test_a_key_is_counted_over_both(client: Make) -> None:
    admin = client(requests_per_minute=0, concurrent_requests=0)
    seen: dict[str, str] = {}

    def both_share() -> bool:
        for _ in range(10):
            text = admin.get("/metrics").text
            values = exported(text)
            (replica,) = values["marc_limits_shared"]["replica"]
            seen[replica] = text
        return len(seen) == 2

    until(both_share)
    assert all("marc_limits_shared{" in t and "} 1.0" in t for t in seen.values())
    limited = client(requests_per_minute=60)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: limited.get("/v1/models").status_code, range(60)))
    allowed = found.count(200)
    assert set(found) == {200, 429}
    assert 10 <= allowed <= 10 + 6  # ten saved up, and what a few seconds add; twice that, alone


def test_uploads_to_both_share_their_room(client: Make) -> None:
    http = client()

    def chunks() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 3000
            time.sleep(0.1)

    def upload(i: int) -> int:
        body: Any = chunks() if i % 2 else b"x" * 12_000
        return http.post(f"/v1/uploads?name={i}.mp4", content=body).status_code

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(upload, range(6)))
    assert set(found) == {202, 507}
    assert 2 <= found.count(202) <= 3
    jobs = http.get("/v1/jobs").json()["data"]
    assert len(jobs) == found.count(202)


def test_a_question_is_one_trace_of_three_processes(
    client: Make, bodies: tuple[str, list[bytes]]
) -> None:
    http, trace_id = client(), "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "X-Request-Id": "traced"}
    found = http.post("/v1/chat/completions", json=ASK | {"stream": True}, headers=headers)
    assert "[DONE]" in found.text
    assert found.headers.get_list("x-request-id") == ["traced"]
    services: dict[str, set[str]] = {}

    def is_whole() -> bool:
        for body in list(bodies[1]):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {a.key: a.value.string_value for a in resource.resource.attributes}
                for span in (s for scope in resource.scope_spans for s in scope.spans):
                    if span.trace_id.hex() == trace_id:
                        services.setdefault(named["service.name"], set()).add(span.name)
        return services == {
            "marc-gateway": {
                "POST /v1/chat/completions", "call retriever.prepare", "call student.stream"
            },
            "marc-retriever": {
                "retriever.prepare", "embed", "retrieve", "features", "compress"
            },
            "marc-student": {"student.stream"},
        }  # fmt: skip

    until(is_whole, 30)
    assert json.dumps(ASK["messages"][0]["content"]).encode()[1:-1] not in b"".join(bodies[1])
