"""The Ray Serve application.

    HTTP proxy --> GatewayReplica --> RetrieverReplica    memory, text encoder, cut to a budget
                     FastAPI      --> StudentReplica      language model, continuous batching
                     uploads, jobs -> folder --> IndexerReplica --> Ray Data --> memory

Each deployment has its own replicas, queue and autoscaling (`serving.config.ReplicaConfig`).
`build` is what `serving/serve.yaml` imports; `marc serve` runs the same application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ray import serve

from serving.carried import carried, carried_stream
from serving.config import (
    ReplicaConfig,
    ServeConfig,
    check_anonymous,
    load_serve_config,
    method_of,
)
from serving.context import current
from serving.logs import log_as_json
from serving.tracing import moment, note, start_tracing, steps

if TYPE_CHECKING:
    from marc_core.config import AnswerConfig, StudentConfig
    from marc_core.models.engine import StudentEngine
    from marc_core.question import EventFilter, Question, Sampling, SearchQuery
    from serving.limits import Limits
    from serving.metrics import Metrics
    from serving.ports import Piece, Prepared, Row, VideoQuery

    MakeEngine = Callable[[StudentConfig], StudentEngine]

MOST_BACKOFF_S = 0.05
"""Longest time until a request that found no free replica looks again (our choice: Serve's half a
second leaves an engine idle between two batches)."""
HEALTH_PERIOD_S = 5.0
"""Between two health checks of a replica (our choice)."""


@serve.deployment(name="retriever")
class RetrieverReplica:
    """One open memory; ready when it is warm."""

    def __init__(self, config: ServeConfig, method: AnswerConfig) -> None:
        from serving.retriever import MemoryRetriever

        log_as_json()
        start_tracing(config.traces, "retriever")
        _one_thread()
        self._own = MemoryRetriever.open(config, method)

    @carried("retriever")
    async def prepare(self, question: Question) -> Prepared:
        prepared = await self._own.prepare(question)
        steps(current(), prepared.timings_s)
        note(visual_tokens=prepared.visual_tokens, events=len(prepared.citations))
        return prepared

    @carried("retriever")
    async def search(self, query: SearchQuery, bound: EventFilter) -> list[Row]:
        return await self._own.search(query, bound)

    @carried("retriever")
    async def events(self, filter: EventFilter, limit: int, offset: int) -> list[Row]:
        return await self._own.events(filter, limit, offset)

    @carried("retriever")
    async def event(self, event_id: str, bound: EventFilter) -> Row | None:
        return await self._own.event(event_id, bound)

    @carried("retriever")
    async def thumbnail(self, event_id: str, bound: EventFilter) -> bytes | None:
        return await self._own.thumbnail(event_id, bound)

    @carried("retriever")
    async def videos(self, query: VideoQuery) -> tuple[list[Row], int]:
        return await self._own.videos(query)

    @carried("retriever")
    async def video(self, video_id: str, bound: EventFilter) -> Row | None:
        return await self._own.video(video_id, bound)

    @carried("retriever")
    async def source(self, video_id: str, bound: EventFilter) -> Row | None:
        return await self._own.source(video_id, bound)

    @carried("retriever")
    async def facets(self, bound: EventFilter) -> Row:
        return await self._own.facets(bound)

    @carried("retriever")
    async def delete(self, video_id: str) -> dict[str, int]:
        return await self._own.delete(video_id)

    async def health(self) -> None:
        await self._own.health()

    async def check_health(self) -> None:
        """What Serve asks; a replica that raises is replaced."""
        await self._own.health()


@serve.deployment(name="student")
class StudentReplica:
    """One engine; ready when its weights are loaded. make: builds it, `load_engine` by default."""

    async def __init__(
        self, config: ServeConfig, student: StudentConfig, make: MakeEngine | None = None
    ) -> None:
        from marc_core.models.engines import load_engine
        from serving.student import EngineStudent
        from serving.weights import Reloader

        log_as_json()
        start_tracing(config.traces, "student")
        _one_thread()
        self._own = EngineStudent((make or load_engine)(student))
        if config.weights.file:
            self._reloader = Reloader(self._own, config.weights, student)
            await self._reloader.start()

    @carried("student")
    async def complete(self, evidence: bytes, sampling: Sampling) -> list[Piece]:
        pieces = await self._own.complete(evidence, sampling)
        note(generated_tokens=sum(piece.num_tokens for piece in pieces))
        return pieces

    @carried_stream("student")
    async def stream(self, evidence: bytes, sampling: Sampling) -> AsyncIterator[Sequence[Piece]]:
        stream: Any = self._own.stream(evidence, sampling)
        async with aclosing(stream):
            is_first, generated = True, 0
            async for pieces in stream:
                if is_first:
                    moment("first token")
                is_first, generated = False, generated + sum(p.num_tokens for p in pieces)
                yield pieces
            note(generated_tokens=generated)

    async def health(self) -> Row | None:
        return await self._own.health()

    async def check_health(self) -> None:
        """What Serve asks; an engine that has failed is replaced."""
        await self._own.health()


@serve.deployment(name="indexer")
class IndexerReplica:
    """The queue of uploads and registered addresses; always one."""

    def __init__(self, config: ServeConfig, method: AnswerConfig) -> None:
        from serving.indexer import Indexer

        log_as_json()
        start_tracing(config.traces, "indexer")
        self._own = Indexer(config, method)

    async def check_health(self) -> None:
        """What Serve asks; an indexer that has ended is replaced."""
        self._own.health()


@serve.deployment(name="gateway")
@serve.ingress()
class GatewayReplica:
    """HTTP in, questions out."""

    def __init__(
        self,
        config: ServeConfig,
        options: dict[str, str],
        retriever: Any,
        student: Any,
        indexer: Any = None,
    ) -> None:
        _ = indexer  # a part of the application; its work comes through the folder of jobs
        log_as_json()
        start_tracing(config.traces, "gateway")
        check_anonymous(config, _proxy_host())
        self._config, self._options = config, options
        self._retriever, self._student = retriever, student
        self._metrics: Metrics | None = None

    async def under_way(self) -> int:
        """Return how many requests this replica is answering."""
        return 0 if self._metrics is None else self._metrics.now_under_way

    def __serve_build_asgi_app__(self) -> Any:
        from serving.gateway import Gateway, build_app
        from serving.handles import RetrieverHandle, StudentHandle
        from serving.metrics import Metrics

        several = self._config.gateway.max_replicas > 1
        metrics = Metrics(serve.get_replica_context().replica_id.unique_id if several else "")
        self._metrics = metrics
        retry_s = self._config.limits.retry_after_s
        gateway = Gateway(
            config=self._config,
            retriever=RetrieverHandle("retriever", self._retriever, metrics, retry_s),
            student=StudentHandle("student", self._student, metrics, retry_s),
            metrics=metrics,
            limits=self._limits(metrics),
            behind_proxy=True,
            archive_options=self._options,
        )
        return build_app(gateway)

    def _limits(self, metrics: Metrics) -> Limits:
        """Return limits over all gateways, or of this one where it is the only one."""
        from serving.limits import LocalLimits
        from serving.shared_limits import SharedLimits, counter_of

        if not self._config.keys or self._config.gateway.max_replicas == 1:
            return LocalLimits()
        name = serve.get_replica_context().app_name
        return SharedLimits(counter_of(name), told=metrics.limits_shared)


def application(config: ServeConfig, make: MakeEngine | None = None) -> serve.Application:
    """Return the application of a configuration; the memory says which models it needs.

    make: builds the engine; measurements put one of known cost here. Raises MemoryStoreError,
    ConfigError.
    """
    config.check_retention()
    method = method_of(config)
    again_s = config.limits.retry_after_s
    retriever = _sized(RetrieverReplica, config.retriever, again_s).bind(config, method)
    student = _sized(StudentReplica, config.student, again_s).bind(config, method.student, make)
    parts = [retriever, student]
    if config.uploads.folder:
        one = {"num_cpus": config.uploads.num_cpus}
        indexer = IndexerReplica.options(num_replicas=1, ray_actor_options=one)
        parts.append(indexer.bind(config, method))
    gateway = _sized(GatewayReplica, config.gateway, again_s)
    return gateway.bind(config, method.archive_options, *parts)


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application of a deploy file's `args` (serving/serve.yaml).

    Raises ConfigError for unknown keys, wrong types and values out of range.
    """
    return application(load_serve_config(args))


def _sized(deployment: Any, config: ReplicaConfig, retry_after_s: int) -> Any:
    from ray.serve.config import BackpressureConfig, RequestRouterConfig

    return deployment.options(
        request_router_config=RequestRouterConfig(max_backoff_s=MOST_BACKOFF_S),
        backpressure_config=BackpressureConfig(retry_after_s=retry_after_s),
        max_ongoing_requests=config.max_ongoing,
        max_queued_requests=config.max_queued,
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=min(1.0, config.drain_s),
        health_check_period_s=HEALTH_PERIOD_S,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        autoscaling_config={
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.target_ongoing,
            "upscale_delay_s": config.upscale_delay_s,
            "downscale_delay_s": config.downscale_delay_s,
        },
    )


def _proxy_host() -> str:
    """Return the address that Serve's HTTP proxies bind to, whatever the configuration says."""
    return str(serve.context._get_global_client().http_config.host)


def _one_thread() -> None:
    """Keep a replica to one thread of computation: on a machine that replicas share, more of them
    wait for each other. The engine takes what its model wants."""
    import torch

    torch.set_num_threads(1)
