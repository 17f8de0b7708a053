"""One trace a request, over all parts; no text in it unless it is configured; nothing when off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from marc_core.errors import ConfigError
from serving import tracing
from serving.app import RetrieverReplica, StudentReplica
from serving.config import ServeConfig, TraceConfig
from serving.context import Context
from serving.gateway import Gateway, build_app
from serving.handles import RetrieverHandle, StudentHandle
from serving.metrics import Metrics
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.collectors import collector
from tests.serving.conftest import BASE

ASK: Any = {"model": "marc", "messages": [{"role": "user", "content": "What colour is SECRET?"}]}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Remote:
    """A replica in this process, called as Serve's handles are."""

    def __init__(self, deployment: Any, own: Any) -> None:
        self._replica = object.__new__(deployment.func_or_class)
        self._replica._own = own

    def options(self, **_: Any) -> Remote:
        return self

    def __getattr__(self, name: str) -> Any:
        class Method:
            """What a handle gives for a method."""

            @staticmethod
            def remote(*args: Any, **more: Any) -> Any:
                called = getattr(self._replica, name)(*args, **more)
                return Stream(called) if hasattr(called, "__anext__") else called

        return Method


class Stream:
    """What a handle gives for a generator."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._items)

    def cancel(self) -> None:
        pass


@pytest.fixture
def traced() -> Iterator[Callable[..., Callable[[], list[Any]]]]:
    def start(**config: Any) -> Callable[[], list[Any]]:
        exporter = InMemorySpanExporter()
        tracing.trace_to(SimpleSpanProcessor(exporter), TraceConfig(**config), "test")
        return lambda: list(exporter.get_finished_spans())

    yield start
    tracing.stop_tracing()


@pytest.fixture(scope="module")
def chain(
    serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> Iterator[TestClient]:
    """The gateway over handles of replicas, all in this process."""
    metrics = Metrics()
    gateway = Gateway(
        config=serve_config, metrics=metrics,
        retriever=RetrieverHandle("retriever", Remote(RetrieverReplica, retriever), metrics, 1),
        student=StudentHandle("student", Remote(StudentReplica, student), metrics, 1),
    )  # fmt: skip
    with TestClient(build_app(gateway), base_url=BASE, raise_server_exceptions=False) as found:
        yield found


def tree(spans: list[Any]) -> dict[str, str]:
    """Each span's name, and its parent's."""
    name_of = {span.context.span_id: span.name for span in spans}
    return {s.name: name_of.get(s.parent.span_id, "outside") if s.parent else "" for s in spans}


@pytest.mark.parametrize(("stream", "call"), [(False, "complete"), (True, "stream")])
def test_a_question_is_one_trace_over_all_parts(
    chain: TestClient, traced: Any, stream: bool, call: str
) -> None:
    spans = traced()
    headers = {"traceparent": CALLER, "X-Request-Id": "mine"}
    response = chain.post("/v1/chat/completions", json=ASK | {"stream": stream}, headers=headers)
    assert response.status_code == 200, response.text
    assert tree(spans()) == {
        "POST /v1/chat/completions": "outside",
        "call retriever.prepare": "POST /v1/chat/completions",
        "retriever.prepare": "call retriever.prepare",
        **dict.fromkeys(("embed", "retrieve", "features", "compress"), "retriever.prepare"),
        f"call student.{call}": "POST /v1/chat/completions",
        f"student.{call}": f"call student.{call}",
    }
    assert {f"{s.context.trace_id:032x}" for s in spans()} == {CALLER.split("-")[1]}
    by_name = {span.name: span for span in spans()}
    whole = by_name["POST /v1/chat/completions"].attributes
    assert whole["http.response.status_code"] == 200
    assert whole["marc.request_id"] == "mine"
    assert by_name[f"student.{call}"].attributes["marc.generated_tokens"] >= 1
    events = [event.name for event in by_name[f"student.{call}"].events]
    assert events == (["first token"] if stream else [])
    assert all(s.end_time >= s.start_time for s in spans())
    assert "SECRET" not in "".join(span.to_json() for span in spans())


def test_what_fails_is_marked_without_its_text(chain: TestClient, traced: Any) -> None:
    spans = traced()
    body = ASK | {"marc": {"filter": {"camera": "SECRET"}}}
    assert chain.post("/v1/chat/completions", json=body).status_code == 422
    (failed,) = (span for span in spans() if span.name == "retriever.prepare")
    assert failed.status.description.endswith("Error")
    assert "SECRET" not in "".join(span.to_json() for span in spans())


def test_texts_are_told_where_that_is_configured(chain: TestClient, traced: Any) -> None:
    spans = traced(text=True)
    chain.post("/v1/chat/completions", json=ASK)
    chain.post("/v1/search", json={"text": "a SECRET circle"})
    told = [s.attributes for s in spans() if s.name.startswith("POST")]
    assert told[0]["marc.question"] == "What colour is SECRET?"
    assert told[1]["marc.search"] == "a SECRET circle"


def test_a_share_of_requests_is_traced_and_the_caller_may_decide(
    chain: TestClient, traced: Any
) -> None:
    spans = traced(sample=0.0)
    chain.get("/v1/videos")
    assert spans() == []
    chain.get("/v1/videos", headers={"traceparent": CALLER})
    assert "retriever.videos" in tree(spans())


def test_off_there_is_no_trace(chain: TestClient) -> None:
    assert chain.get("/v1/videos", headers={"traceparent": CALLER}).status_code == 200
    with tracing.span("step", Context(request_id="mine")) as step:
        assert step is None
    tracing.start_tracing(TraceConfig(), "test")
    assert tracing._own.tracer is None


def test_spans_reach_a_collector(chain: TestClient) -> None:
    with collector() as (endpoint, bodies):
        try:
            tracing.start_tracing(TraceConfig(endpoint=endpoint), "gateway")
            chain.get("/v1/facets")
            assert tracing.flush()
        finally:
            tracing.stop_tracing()
    sent = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    (resource,) = (r for request in sent for r in request.resource_spans)
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert {"GET /v1/facets", "call retriever.facets", "retriever.facets"} <= names
    service = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert (service["service.name"], service["service.namespace"]) == ("marc-gateway", "marc")


def test_without_the_exporter_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    with pytest.raises(ConfigError, match=r"marc-video\[otel\]"):
        tracing.start_tracing(TraceConfig(endpoint="http://127.0.0.1:1/v1/traces"), "gateway")
