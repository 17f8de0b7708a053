"""What holds for every request: limits of bodies, headers, ids; hostile requests."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving.config import LimitConfig, ServeConfig
from serving.gateway import Gateway, build_app
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.conftest import BASE, logged, make_app


@pytest.fixture(scope="module")
def small(serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent) -> FastAPI:
    config = replace(serve_config, limits=LimitConfig(body_bytes=200_000))
    return make_app(config, retriever, student)


def test_every_response_has_the_headers(client: TestClient) -> None:
    for path in ("/health", "/nothing", "/v1/videos", "/openapi.json"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert len(headers["x-request-id"]) == 32


def test_a_request_keeps_its_id_unless_it_is_odd(client: TestClient) -> None:
    given = client.get("/health", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    odd = client.get("/health", headers={"X-Request-Id": "a b<script>"})
    assert "script" not in odd.headers["x-request-id"]


def test_serves_proxy_names_requests_itself(
    serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> None:
    gateway = Gateway(config=serve_config, retriever=retriever, student=student, behind_proxy=True)
    proxied = TestClient(build_app(gateway), base_url=BASE)
    for given, known in (("abc-1", "abc-1"), ("a b<script>" + "x" * 99, "a_b_script_" + "x" * 53)):
        with logged() as lines:
            found = proxied.get("/health", headers={"X-Request-Id": given})
        assert "x-request-id" not in found.headers  # the proxy adds it
        assert [line["request_id"] for line in lines()] == [known]


@pytest.mark.parametrize("said", [True, False])
def test_a_body_that_is_too_long_is_refused(small: FastAPI, said: bool) -> None:
    body = json.dumps({"text": "x" * 300_000}).encode()
    found = TestClient(small, base_url=BASE, raise_server_exceptions=False).post(
        "/v1/search",
        content=body if said else iter([body[:100_000], body[100_000:]]),
        headers={"Content-Type": "application/json"},
    )
    assert (found.status_code, found.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 30_000, b"\xff\xfe", b"{", b"", b"null", b"[]", b'"x"', b"NaN"],
    ids=lambda body: repr(body[:8]),
)
def test_odd_bodies_are_errors_by_name(small: FastAPI, body: bytes) -> None:
    client = TestClient(small, base_url=BASE, raise_server_exceptions=False)
    for path in ("/v1/search", "/v1/chat/completions"):
        found = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert found.status_code in (400, 422)
        assert found.json()["error"]["type"] == "invalid_request_error"


def test_a_method_that_is_not_there(client: TestClient) -> None:
    found = client.put("/v1/search", json={})
    assert (found.status_code, found.json()["error"]["code"]) == (405, "method_not_allowed")
    assert found.headers["allow"] == "POST"
    assert client.put("/v1/videos").headers["allow"] == "GET, POST"
    assert client.post("/v1/videos/x").headers["allow"] == "DELETE, GET"


def test_metrics_count_requests_and_tokens(client: TestClient) -> None:
    ask = {"model": "marc", "messages": [{"role": "user", "content": "What colour is it?"}]}
    client.post("/v1/chat/completions", json=ask)
    text = client.get("/metrics").text
    assert 'route="/v1/chat/completions",status="200"' in text
    assert 'marc_visual_tokens_total{when="before"}' in text
    assert 'marc_step_seconds_count{step="generate"}' in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "127.0.0.1.example.org"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost", "Origin": "https://example.org"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "["}, 403),
        ({"Host": "localhost", "Origin": "http://[::1"}, 403),
    ],
)
def test_pages_of_other_sites_reach_nothing(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    found = client.post("/v1/search", json={"text": "x", "limit": 1}, headers=headers)
    assert found.status_code == status
