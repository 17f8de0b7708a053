"""The gateway: HTTP in, questions out. It holds no model and opens no memory.

request -> Edge (id, body limits, headers) -> route -> needs(scope) -> Retriever -> Student
                                                                 (serving.ports)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

import marc_core
from marc_core.question import EventFilter
from marc_core.schemas import make_event_id
from serving import errors, page
from serving.access import ANONYMOUS, Caller, KeyRing
from serving.config import ServeConfig
from serving.edge import Edge
from serving.errors import ApiError
from serving.keys import Key, KeyFile
from serving.limits import Limits, LocalLimits
from serving.media import Media
from serving.metrics import Metrics
from serving.openapi import describe
from serving.ports import Retriever, Row, Student
from serving.schemas import ErrorReply, Event, EventDetail, Scope, Video
from serving.uploads import Uploads

T = TypeVar("T")
log = logging.getLogger("marc.serving")

SWEEP_S = 600.0
"""Between two looks at the copies of videos (our choice)."""
_bearer = HTTPBearer(auto_error=False, description="An API key of `marc keys create`.")


@dataclass(kw_only=True)
class Gateway:
    """What the routes share. behind_proxy: whether Serve's proxy stands before it."""

    config: ServeConfig
    retriever: Retriever
    student: Student
    limits: Limits = field(default_factory=LocalLimits)
    metrics: Metrics = field(default_factory=Metrics)
    started_at: int = field(default_factory=lambda: int(time.time()))
    keys: KeyRing | None = None
    behind_proxy: bool = False
    archive_options: dict[str, str] = field(default_factory=dict, repr=False)
    media: Media = field(init=False)
    uploads: Uploads | None = None
    _places: int = field(init=False)

    def __post_init__(self) -> None:
        """Open the keys. Raises ConfigError where their file cannot be read."""
        self.media = Media(self.config.media, self.archive_options)
        student = self.config.student
        self._places = student.max_replicas * student.max_ongoing + student.max_queued
        if self.config.uploads.folder:
            self.uploads = Uploads(self.config.uploads)
        if self.config.keys:
            file = KeyFile(self.config.keys)
            file.keys()
            self.keys = KeyRing(file)

    def caller(self, request: Request, token: str | None, *, by_link: bool) -> Caller:
        """Return who asks. Raises a 401."""
        if self.keys is None:
            return ANONYMOUS
        if token is not None:
            return self.keys.find(token)
        if by_link and "signature" in request.query_params:
            return self.keys.follow(request.url.path, request.query_params)
        message = "An API key is needed: Authorization: Bearer mk_..."
        raise ApiError(401, "missing_api_key", message)

    async def enter(self, key: Key) -> None:
        """Count a key's request in, within its limits. Raises a 429."""
        rate, at_once = key.requests_per_minute, key.concurrent_requests
        limits = self.config.limits
        try:
            await self.limits.enter(
                key.id,
                limits.requests_per_minute if rate is None else rate,
                limits.concurrent_requests if at_once is None else at_once,
            )
        except ApiError as refused:
            self.metrics.rejected(refused.code)
            raise

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the student's places, those of its queue among them, in a `with` block.

        Taken before the retriever works: what the student will refuse costs nothing. Raises a 503.
        """
        self.check_place()
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    def check_place(self) -> None:
        """Raise a 503 where the student has no place left."""
        if not self._places:
            self.metrics.rejected("overloaded")
            raise errors.overloaded(self.config.limits.retry_after_s)

    async def soon(self, work: Awaitable[T]) -> T:
        """Return what `work` returns within the deadline of a search. Raises TimeoutError."""
        async with asyncio.timeout(self.config.limits.search_deadline_s):
            return await work

    async def sweep(self) -> None:
        """Delete copies of videos that are old, or whose videos were deleted by somebody else."""
        for video_id in await asyncio.to_thread(self.media.sweep):
            if await self.soon(self.retriever.source(video_id, EventFilter())) is None:
                self.media.forget(video_id)

    def event(self, row: Row, caller: Caller) -> Event:
        """Return an event as the API shows it, with links for this caller."""
        return Event(**row | self._links(row, caller))

    def event_detail(self, row: Row, caller: Caller) -> EventDetail:
        """Return one event with its texts."""
        return EventDetail(**row | self._links(row, caller))

    def video(self, row: Row, caller: Caller) -> Video:
        """Return a video as the API shows it, with links for this caller."""
        first = make_event_id(row["video_id"], 0, 0) if row["num_events"] else None
        return Video(
            **row,
            uploaded=self.uploads is not None and self.uploads.owns(row["uri"]),
            thumbnail_url=None if first is None else _thumbnail(first, caller),
            media_url=_media(row["video_id"], caller),
        )

    def _links(self, row: Row, caller: Caller) -> Row:
        clip = f"{_media(row['video_id'], caller)}#t={row['start_s']:.3f},{row['end_s']:.3f}"
        return {"thumbnail_url": _thumbnail(row["event_id"], caller), "clip_url": clip}


def _thumbnail(event_id: str, caller: Caller) -> str:
    return caller.link(f"/v1/events/{quote(event_id, safe=':')}/thumbnail")


def _media(video_id: str, caller: Caller) -> str:
    return caller.link(f"/v1/videos/{quote(video_id, safe='')}/media")


async def gateway_of(request: Request) -> Gateway:
    """Return what the routes share (a dependency; asynchronous, so that it costs no thread)."""
    found: Gateway = request.app.state.gateway
    return found


def needs(scope: Scope | None, *, by_link: bool = False) -> Callable[..., AsyncIterator[Caller]]:
    """Return a dependency: who asks, once it is known that they may, and within their limits.

    scope: None for what everybody may who has a key. by_link: whether a signed link will do.
    """

    async def dependency(
        request: Request,
        gateway: Gateway = Depends(gateway_of),
        bearer: HTTPAuthorizationCredentials | None = Depends(_bearer),
    ) -> AsyncIterator[Caller]:
        token = None if bearer is None else bearer.credentials
        caller = gateway.caller(request, token, by_link=by_link)
        request.scope["caller"] = caller.name
        if scope is not None:
            caller.needs(scope)
        if caller.key is None or token is None:
            yield caller
            return
        await gateway.enter(caller.key)
        try:
            yield caller
        finally:
            await gateway.limits.leave(caller.key.id)

    return dependency


def build_app(gateway: Gateway) -> FastAPI:
    """Return the HTTP application over a gateway."""
    from serving.routes import ROUTERS

    app = FastAPI(
        title="MARC",
        version=marc_core.__version__,
        summary="Answers questions about a video archive.",
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": ErrorReply}, "5XX": {"model": ErrorReply}},
        lifespan=_lifespan,
    )
    app.state.gateway = gateway
    app.router.routes.append(Route("/mcp", endpoint=_Tools(app), include_in_schema=False))
    routers = (*ROUTERS, page.router)
    for router in routers:
        app.include_router(router)
    app.state.routes = [route for router in routers for route in router.routes]
    errors.install(app)
    describe(app)
    app.add_middleware(
        Edge,
        limits=gateway.config.limits,
        metrics=gateway.metrics,
        names_requests=not gateway.behind_proxy,
        for_everybody=gateway.keys is None,
        check_place=gateway.check_place,
    )
    return app


class _Tools:
    """The agents' tools, an ASGI application that runs while its application does."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        await self._app.state.tools(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    from serving.mcp_tools import mcp_app

    app.state.tools, run = mcp_app(app)
    gateway: Gateway = app.state.gateway
    sweeping = asyncio.create_task(_keep_sweeping(gateway))
    try:
        async with run(), gateway.limits.running():
            yield
    finally:
        sweeping.cancel()
        gateway.media.close()


async def _keep_sweeping(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await gateway.sweep()
        except Exception:  # tried again next time
            log.exception("sweeping copies of videos")
