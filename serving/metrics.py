"""Prometheus metrics of one gateway replica; serving/grafana.json shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """What a gateway counts; each in a registry of its own, so that tests and replicas that share a
    process do not meet. replica: a label of all metrics, where there are several gateways and
    Prometheus meets now one, now another; empty: no label."""

    def __init__(self, replica: str = "") -> None:
        self.replica = replica
        self.now_under_way = 0
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "marc_requests", "Requests by route, method and status.",
            ["route", "method", "status"], registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "marc_request_seconds", "Seconds from a request's first byte to its answer's last.",
            ["route"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._steps = Histogram(
            "marc_step_seconds",
            "Seconds of an answer by step: embed, retrieve, features, compress, first_token, "
            "generate.",
            ["step"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "marc_visual_tokens", "Visual tokens of answers, before and after compression.",
            ["when"], registry=registry,
        )  # fmt: skip
        self._generated = Counter("marc_generated_tokens", "Tokens generated.", registry=registry)
        self._rejected = Counter(
            "marc_rejected", "Requests refused before any work, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._retries = Counter(
            "marc_retries", "Calls sent again because a replica had died.",
            ["part"], registry=registry,
        )  # fmt: skip
        self._together = Histogram(
            "marc_batch_size", "Questions that a part was at work on at once, by part.",
            ["part"], buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry,
        )  # fmt: skip
        self._weights = Gauge(
            "marc_weights_version", "Version of the weights that drew the latest answer.",
            registry=registry,
        )  # fmt: skip
        self._under_way = Gauge("marc_under_way", "Requests under way.", registry=registry)
        self._limits_shared = Gauge(
            "marc_limits_shared",
            "1 where keys are counted over all gateways, 0 where this one counts for itself.",
            registry=registry,
        )  # fmt: skip

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request as under way."""
        self.now_under_way += 1
        self._under_way.set(self.now_under_way)
        try:
            yield
        finally:
            self.now_under_way -= 1
            self._under_way.set(self.now_under_way)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(
        self,
        before: int,
        after: int,
        generated: int,
        steps: Mapping[str, float],
        *,
        together: Mapping[str, int],
        weights_version: int,
    ) -> None:
        """Count an answer."""
        self._weights.set(weights_version)
        for part, count in together.items():
            self._together.labels(part).observe(count)
        self._tokens.labels("before").inc(before)
        self._tokens.labels("after").inc(after)
        self._generated.inc(generated)
        for step, seconds in steps.items():
            self._steps.labels(step).observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a request that was refused because of load or limits."""
        self._rejected.labels(reason).inc()

    def limits_shared(self, shared: bool) -> None:
        """Say whether keys are counted over all gateways."""
        self._limits_shared.set(shared)

    def retried(self, part: str) -> None:
        """Count a call that was sent again."""
        self._retries.labels(part).inc()

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(_Labelled(self.registry, self.replica))  # type: ignore[arg-type]


class _Labelled:
    """A registry whose samples have one label more."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self._registry, self._more = registry, {"replica": replica} if replica else {}

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        for metric in self._registry.collect():
            metric.samples = [s._replace(labels={**s.labels, **self._more}) for s in metric.samples]
            yield metric
