"""What holds for every request: an id, limits on its body, security headers, a line in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from serving.config import LimitConfig, is_loopback
from serving.context import Context
from serving.errors import ApiError, api_error
from serving.metrics import Metrics
from serving.tracing import carrier_of, note_response, span

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("marc.serving.access")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ODD = re.compile(r"[^A-Za-z0-9._-]")
UPLOADS = "/v1/uploads"
"""The one route whose body is streamed to a disk, with limits of its own."""
CHAT = "/v1/chat/completions"
"""The one route that is refused before its body is read, where the student has no place left."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Of every response. No inline script, no frames, nothing from elsewhere; CORS stays off."""


class Edge:
    """ASGI middleware around the application. names_requests: whether the id goes into the
    response here; Serve's proxy, which makes ids, does that itself, as they were given.
    for_everybody: no key is needed. check_place: raises where no question can be taken."""

    def __init__(
        self,
        app: Any,
        *,
        limits: LimitConfig,
        metrics: Metrics,
        names_requests: bool = True,
        for_everybody: bool = False,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.check_place = check_place
        self.names_requests, self.for_everybody = names_requests, for_everybody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.limits, self.names_requests)
        with span(scope["method"], exchange.context, "SERVER") as step:
            await self._handle(scope, exchange, step)

    async def _handle(self, scope: Scope, exchange: _Exchange, step: Any) -> None:
        try:
            check_sender(scope, for_everybody=self.for_everybody)
            if scope["path"] == CHAT:
                self.check_place()
            with self.metrics.under_way():
                await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.is_over:
                return
            if exchange.status:
                raise
            await exchange.fail(api_error(error, exchange.request_id), scope)
        finally:
            self._record(scope, exchange, step)

    def _record(self, scope: Scope, exchange: _Exchange, step: Any) -> None:
        refused = CHAT if scope["path"] == CHAT else "(none)"
        path = getattr(scope.get("route"), "path", refused)
        seconds = time.perf_counter() - exchange.started
        self.metrics.request(path, scope["method"], exchange.status or 499, seconds)
        note_response(step, f"{scope['method']} {path}", path, exchange.status or 499)
        log.info(
            "request",
            extra={
                "request_id": exchange.request_id,
                "method": scope["method"],
                "route": path,
                "status": exchange.status or 499,
                "seconds": round(seconds, 4),
                "caller": scope.get("caller"),
            },
        )


def check_sender(scope: Scope, *, for_everybody: bool) -> None:
    """Raise a 403 for what a page of another site sends through somebody's browser.

    Where no key is needed, the Host must be this machine's: a name that was made to lead here (DNS
    rebinding) is not. A change must not come from a page of another origin.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    if for_everybody and not is_loopback(_hostname(host)):
        message = "Without API keys this server answers to its own machine's names only."
        raise ApiError(403, "host_not_allowed", message)
    changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
    if changes and origin is not None and _netloc(origin) != host:
        message = "Pages of other origins may change nothing here."
        raise ApiError(403, "origin_not_allowed", message)


def _hostname(host: str) -> str:
    """Return the name or address of a Host header; empty where it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as an address in brackets that do not close
        return ""


def _netloc(origin: str) -> str | None:
    """Return the host and port of an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


class _Exchange:
    """One request and its response."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limits: LimitConfig,
        names_requests: bool,
    ) -> None:
        headers = {k.lower(): v for k, v in reversed(scope["headers"])}  # the first one counts
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = _request_id(given, is_shown=not names_requests)
        scope["request_id"] = self.request_id
        self.context = Context(request_id=self.request_id, trace=carrier_of(headers))
        self.started, self.status = time.perf_counter(), 0
        self.headers = HEADERS | ({"X-Request-Id": self.request_id} if names_requests else {})
        self._receive, self._send, self._limits = receive, send, limits
        self._is_upload = scope["path"] == UPLOADS
        self._received, self._complete = 0, False
        self._scope, self.is_over = scope, False
        self._broken: ApiError | None = None
        length = headers.get(b"content-length", b"")
        if length.isdigit():
            self._received = int(length) if int(length) > limits.body_bytes else 0

    async def receive(self) -> Message:
        """Return the next piece of the body. Raises ApiError where it is too long or too slow."""
        if self._complete or self._is_upload:
            return await self._receive()
        self._check()
        stall_s, most_s = self._limits.body_stall_s, self._limits.body_deadline_s
        left_s = max(0.0, self.started + most_s - time.perf_counter())
        try:
            async with asyncio.timeout(min(stall_s, left_s)):
                message = await self._receive()
        except TimeoutError:
            said = f"No byte of the body came for {stall_s:g} s."
            if left_s < stall_s:
                said = f"The body took more than {most_s:g} s."
            raise self._breaks(408, "stalled", said) from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            self._check()
        return message

    def _check(self) -> None:
        most = self._limits.body_bytes
        if self._received > most:
            raise self._breaks(413, "too_large", f"A request's body may have {most:,} bytes.")

    def _breaks(self, status: int, code: str, message: str) -> ApiError:
        self._broken = ApiError(status, code, message)
        return self._broken

    async def send(self, message: Message) -> None:
        """Pass a piece of the response on, with the headers of every response.

        Frameworks take an error of the body's for one of the application's: what it was is said
        here.
        """
        if self._broken is not None:
            broken, self._broken = self._broken, None
            await self.fail(broken, self._scope)
            self.is_over = True
        if self.is_over:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = {key.lower() for key, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (k.encode(), v.encode())
                    for k, v in self.headers.items()
                    if k.lower().encode() not in named
                ),
            ]
        try:
            async with asyncio.timeout(self._limits.reader_stall_s):
                await self._send(message)
        except TimeoutError:  # OSError is ASGI's word for a reader who is gone
            self.is_over = True
            raise ConnectionAbortedError("nobody takes the response") from None

    async def fail(self, error: ApiError, scope: Scope) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self.status:
            await error.response()(scope, self._receive, self.send)  # type: ignore[arg-type]


def _request_id(given: str, *, is_shown: bool) -> str:
    """Return the id under which logs know a request. is_shown: the client sees the one that was
    given, whatever it looks like, so that an odd one stays recognisable."""
    if _ID.fullmatch(given):
        return given
    return _ODD.sub("_", given)[:64] if given and is_shown else uuid.uuid4().hex
