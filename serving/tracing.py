"""OpenTelemetry traces: one a request, over gateway, retriever, student and indexer.

    POST /v1/chat/completions          gateway
      call retriever.prepare           its hop, with what is sent again
        retriever.prepare              retriever
          embed, retrieve, features, compress
      call student.stream
        student.stream                 student; event "first token"

A trace goes on with the caller's `traceparent`, and from process to process in `Context.trace`. Off
(no `traces.endpoint`), nothing of OpenTelemetry is imported. Spans carry no text of questions or
answers unless `traces.text` says so, and never keys.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from marc_core.errors import ConfigError
from serving.context import Context, entered

if TYPE_CHECKING:
    from serving.config import TraceConfig

Kind = Literal["SERVER", "CLIENT", "CONSUMER", "INTERNAL"]
EXPORT_S = 1.0
"""Spans wait so long to be sent together (our choice)."""


class _Tracing:
    """Of this process. tracer: None while tracing is off."""

    tracer: Any = None
    provider: Any = None
    shows_text = False


_own = _Tracing()
_span: ContextVar[Any] = ContextVar("marc_span", default=None)


def start_tracing(config: TraceConfig, part: str) -> None:
    """Send this process's spans to the collector that is configured; once in a process.

    Raises ConfigError where the exporter is not installed.
    """
    if not config.endpoint or _own.tracer is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError(
            "traces.endpoint needs OpenTelemetry's exporter, which is not installed: pip install "
            "'marc-video[otel]'. Or leave traces.endpoint empty."
        ) from error
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=config.endpoint)
    trace_to(BatchSpanProcessor(exporter, schedule_delay_millis=1000 * EXPORT_S), config, part)


def trace_to(processor: Any, config: TraceConfig, part: str) -> None:
    """Give this process's spans to a processor of OpenTelemetry's."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    named = {"service.name": f"marc-{part}", "service.namespace": "marc"}
    provider = TracerProvider(
        resource=Resource.create(named), sampler=ParentBasedTraceIdRatio(config.sample)
    )
    provider.add_span_processor(processor)
    _own.provider, _own.shows_text = provider, config.text
    _own.tracer = provider.get_tracer("marc.serving")


def flush() -> bool:
    """Send what waits; return whether it was sent."""
    return bool(_own.provider.force_flush())


def stop_tracing() -> None:
    """Send what waits, and trace no more in this process."""
    if _own.provider is not None:
        _own.provider.shutdown()
    _own.tracer = _own.provider = None


def carrier_of(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return what a request's headers say of the trace that it belongs to."""
    if _own.tracer is None:
        return {}
    names = (b"traceparent", b"tracestate")
    return {n.decode(): headers[n].decode("latin-1") for n in names if n in headers}


@contextmanager
def span(name: str, context: Context, kind: Kind = "INTERNAL", **attributes: Any) -> Iterator[Any]:
    """Work on a request in this block, as a step of its trace: `current()` is in it then. Gives the
    step to `note_response`."""
    if _own.tracer is None:
        with entered(context):
            yield None
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode

    own = _own.tracer.start_span(
        name, context=_extracted(context), kind=SpanKind[kind],
        attributes={**attributes, "marc.request_id": context.request_id},
    )  # fmt: skip
    before = _span.get()
    _span.set(own)
    try:
        with entered(replace(context, trace=_carrier(own))):
            yield own
    except BaseException as error:
        if isinstance(error, Exception):  # else its reader has left; messages may quote a question
            own.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        _span.set(before)
        own.end()


def note(**attributes: Any) -> None:
    """Add attributes to the step that is under way here."""
    own = _span.get()
    if own is not None:
        own.set_attributes({f"marc.{name}": value for name, value in attributes.items()})


def note_text(**texts: str) -> None:
    """The same for what people have written: only where it is configured."""
    if _own.shows_text:
        note(**texts)


def note_response(own: Any, name: str, route: str, status: int) -> None:
    """Name the step of a whole request after its route, and say how it was answered."""
    if own is not None:
        own.update_name(name)
        own.set_attributes({"http.route": route, "http.response.status_code": status})


def moment(name: str) -> None:
    """Say that something has happened now in the step that is under way here."""
    own = _span.get()
    if own is not None:
        own.add_event(name)


def steps(context: Context, seconds: Mapping[str, float]) -> None:
    """Add steps that have just ended, one after the other; questions of a batch share them."""
    if _own.tracer is None:
        return
    at = time.time() - sum(seconds.values())
    parent = _extracted(context)
    for name, taken in seconds.items():
        own = _own.tracer.start_span(name, context=parent, start_time=int(at * 1e9))
        at += taken
        own.end(end_time=int(at * 1e9))


def _extracted(context: Context) -> Any:
    from opentelemetry.context import Context as Bare
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(dict(context.trace), context=Bare())


def _carrier(own: Any) -> dict[str, str]:
    from opentelemetry.context import Context as Bare
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=set_span_in_context(own, Bare()))
    return carrier
