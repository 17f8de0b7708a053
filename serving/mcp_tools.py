"""MCP: the HTTP API as tools for agents. Every tool is one call of the API, with the caller's own
key: scopes, bounds and limits are those of `serving.gateway`, and nothing is decided twice.

    agent --/mcp (streamable HTTP)--> tools --in this process--> the application
    agent --stdio: marc mcp---------> tools --over HTTP--------> a server (marc serve)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

import marc_core

Api = Callable[[Context[Any, Any]], AbstractAsyncContextManager[httpx2.AsyncClient]]
"""Opens a client of the HTTP API for the caller of a tool."""

DEADLINE_S = 120.0
"""Of one call of the API (our choice: above every deadline of its own)."""
INSTRUCTIONS = (
    "Search and ask a video archive. Events are stretches of videos; start_s and end_s count from "
    "the video's 0:00. Cite event_id and times; get_clip_link gives a link that plays an event."
)
_SHOWN = (
    "event_id", "video_id", "name", "start_s", "end_s", "recorded_from", "recorded_to", "score",
    "text", "matches", "camera", "tags", "clip_url",
)  # fmt: skip


class _StrictServer(MCPServer[Any]):
    """Refuses arguments that a tool does not have; the SDK would leave them out of account, and a
    filter with a wrong name would find everything."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], *more: Any, **named: Any
    ) -> Any:
        known = {t.name: list(t.input_schema["properties"]) for t in await self.list_tools()}
        unknown = sorted(set(arguments) - set(known.get(name, arguments)))
        if unknown:
            raise ToolError(
                f"'{unknown[0]}' is no argument of {name}. It takes: {', '.join(known[name])}."
            )
        return await super().call_tool(name, arguments, *more, **named)


def tool_server(api: Api) -> MCPServer[Any]:
    """Return the MCP server whose tools call the API."""
    server: MCPServer[Any] = _StrictServer(
        "marc", instructions=INSTRUCTIONS, version=marc_core.__version__
    )
    _add_questions(server, api)
    _add_archive(server, api)
    return server


def _add_questions(server: MCPServer[Any], api: Api) -> None:
    """Add the tools that find and answer."""

    @server.tool()
    async def search_events(
        context: Context[Any, Any],
        text: str,
        limit: int = 5,
        video_id: str | None = None,
        camera: str | None = None,
        tag: str | None = None,
        folder: str | None = None,
        recorded_from: str | None = None,
        recorded_to: str | None = None,
        kind: str | None = None,
    ) -> dict[str, Any]:
        """Find events that look like a description, or in which its words are said or written; best
        first. `matches` of an event are the lines that hold the words, with their own times.

        recorded_from, recorded_to: ISO 8601 with an offset from UTC. kind: look for the words in
        one kind of text alone: speech, writing, caption or sidecar.
        """
        where = _filter(video_id, camera, tag, folder, recorded_from, recorded_to)
        where |= {} if kind is None else {"kinds": [kind]}
        async with api(context) as client:
            body = {"text": text, "limit": limit, "filter": where}
            found = await _call(client, "POST", "/v1/search", json=body)
            return {"events": [_event(client, e) for e in found["data"]]}

    @server.tool()
    async def ask(
        context: Context[Any, Any],
        question: str,
        options: list[str] | None = None,
        video_id: str | None = None,
        camera: str | None = None,
        tag: str | None = None,
        folder: str | None = None,
        recorded_from: str | None = None,
        recorded_to: str | None = None,
    ) -> dict[str, Any]:
        """Answer a question about the archive from the events that fit it, and cite them.

        options: of a multiple-choice question, in order.
        """
        where = _filter(video_id, camera, tag, folder, recorded_from, recorded_to)
        async with api(context) as client:
            model = (await _call(client, "GET", "/v1/models"))["data"][0]["id"]
            body = {
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "marc": {"filter": where, "options": options or []},
            }
            found = await _call(client, "POST", "/v1/chat/completions", json=body)
            return {
                "answer": found["choices"][0]["message"]["content"],
                "citations": [_event(client, e) for e in found["marc"]["citations"]],
                "tokens": found["marc"]["tokens"],
                "warning": found["marc"]["warning"],
            }


def _add_archive(server: MCPServer[Any], api: Api) -> None:
    """Add the tools that look at the archive itself."""

    @server.tool()
    async def list_videos(
        context: Context[Any, Any],
        name: str | None = None,
        camera: str | None = None,
        tag: str | None = None,
        folder: str | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> dict[str, Any]:
        """List the archive's videos by address. name: a part of the file name."""
        given = {"name": name, "camera": camera, "tag": tag, "folder": folder}
        query = {key: value for key, value in given.items() if value is not None}
        async with api(context) as client:
            page = await _call(
                client, "GET", "/v1/videos", params={**query, "limit": limit, "offset": offset}
            )
            shown = ("video_id", "name", "status", "duration_s", "camera", "tags", "num_events")
            videos = [{key: video[key] for key in shown} for video in page["data"]]
            return {"videos": videos, "total": page["total"], "next_offset": page["next_offset"]}

    @server.tool()
    async def get_clip_link(context: Context[Any, Any], event_id: str) -> dict[str, Any]:
        """Return a link that plays an event, and one to its picture, good for hours."""
        async with api(context) as client:
            event = await _call(client, "GET", f"/v1/events/{quote(event_id, safe=':')}")
            return _event(client, event) | {
                "thumbnail_url": str(client.base_url).rstrip("/") + event["thumbnail_url"]
            }


def inside(app: ASGIApp) -> Api:
    """Return how a tool calls the application in this process, with its caller's key."""

    @asynccontextmanager
    async def api(context: Context[Any, Any]) -> AsyncIterator[httpx2.AsyncClient]:
        given = {k.lower(): v for k, v in (context.headers or {}).items()}
        kept = {name: given[name] for name in ("authorization", "x-request-id") if name in given}
        base = f"{given.get('x-forwarded-proto', 'http')}://{given.get('host', 'localhost')}"
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(
            transport=transport, base_url=base, headers=kept, timeout=DEADLINE_S
        ) as client:
            yield client

    return api


def over_http(url: str, key: str | None) -> Api:
    """Return how a tool calls a server at `url`."""

    @asynccontextmanager
    async def api(_: Context[Any, Any]) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as client:
            yield client

    return api


def mcp_app(app: ASGIApp) -> tuple[ASGIApp, Callable[[], AbstractAsyncContextManager[None]]]:
    """Return the tools as an application to mount at /mcp, and what must run beside it.

    Without sessions, so that any replica answers any call. The key is checked by what a tool
    calls, the Host header by `serving.edge`.
    """
    server = tool_server(inside(app))
    # Host and Origin are checked for every route by serving.edge.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    mounted = server.streamable_http_app(
        streamable_http_path="/mcp", json_response=True, stateless_http=True,
        transport_security=security,
    )  # fmt: skip
    return mounted, server.session_manager.run


async def _call(client: httpx2.AsyncClient, method: str, path: str, **more: Any) -> Any:
    """Return the API's answer. Raises ToolError with the API's own message."""
    try:
        response = await client.request(method, path, **more)
    except httpx2.HTTPError as error:
        raise ToolError(f"The server does not answer: {type(error).__name__}: {error}") from error
    if response.is_error:
        try:
            message = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = f"The server answered {response.status_code}."
        raise ToolError(message)
    return response.json()


def _event(client: httpx2.AsyncClient, event: dict[str, Any]) -> dict[str, Any]:
    """Return what an agent needs of an event, with a whole link."""
    shown = {name: event[name] for name in _SHOWN}
    return shown | {"clip_url": str(client.base_url).rstrip("/") + event["clip_url"]}


def _filter(
    video_id: str | None,
    camera: str | None,
    tag: str | None,
    folder: str | None,
    recorded_from: str | None,
    recorded_to: str | None,
) -> dict[str, Any]:
    given = {
        "video_ids": None if video_id is None else [video_id],
        "camera": camera,
        "tags": None if tag is None else [tag],
        "folder": folder,
        "recorded_from": recorded_from,
        "recorded_to": recorded_to,
    }
    return {name: value for name, value in given.items() if value is not None}
