"""The SDK's own client: the tools over streamable HTTP and over stdio, with and without keys."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from serving.config import ServeConfig
from serving.keys import KeyFile, new_key
from serving.mcp_tools import tool_server
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.conftest import make_app

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {"search_events", "ask", "list_videos", "get_clip_link"}


class Running:
    """An application behind a real server, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = int(s.getsockname()[1])
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_level="error", ws="none")
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def url(
    serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> Iterator[str]:
    running = Running(make_app(serve_config, retriever, student))
    yield running.url
    running.close()


def call(server: Any, tool: str, **arguments: Any) -> Any:
    async def run() -> Any:
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(run())


def good(result: Any) -> Any:
    assert not result.is_error, result.content
    return result.structured_content


def test_the_tools_are_listed(url: str) -> None:
    async def run() -> Any:
        async with Client(f"{url}/mcp") as client:
            return await client.list_tools()

    assert {tool.name for tool in asyncio.run(run()).tools} == TOOLS


def test_each_tool_says_what_the_api_says(url: str, client: TestClient) -> None:
    mcp = f"{url}/mcp"
    found = good(call(mcp, "search_events", text="a red circle", limit=3))["events"]
    own = client.post("/v1/search", json={"text": "a red circle", "limit": 3}).json()["data"]
    assert [e["event_id"] for e in found] == [e["event_id"] for e in own]
    videos = good(call(mcp, "list_videos", name="video1"))
    assert videos["total"] == 1
    video_id = videos["videos"][0]["video_id"]
    answer = good(call(mcp, "ask", question="What colour is it?", video_id=video_id))
    assert answer["answer"]
    assert {c["video_id"] for c in answer["citations"]} == {video_id}
    link = good(call(mcp, "get_clip_link", event_id=found[0]["event_id"]))["clip_url"]
    assert link.startswith(f"{url}/v1/videos/")
    assert httpx2.get(link.partition("#")[0]).status_code == 200


def test_what_goes_wrong_is_said_to_the_agent(url: str) -> None:
    result = call(f"{url}/mcp", "get_clip_link", event_id="unknown")
    assert result.is_error
    assert "no event 'unknown'" in result.content[0].text
    for elsewhere in ("../videos", "x/thumbnail", "?limit=1", "x#1"):
        result = call(f"{url}/mcp", "get_clip_link", event_id=elsewhere)
        assert result.is_error
        assert "There is no" in result.content[0].text


def test_an_argument_that_a_tool_does_not_have_is_refused_by_name() -> None:
    def nobody(_: Any) -> Any:
        raise AssertionError("the archive was asked all the same")

    result = call(tool_server(nobody), "search_events", text="x", video_ids=["a"])
    assert result.is_error
    assert "'video_ids' is no argument of search_events" in result.content[0].text
    assert "video_id, camera" in result.content[0].text
    assert call(tool_server(nobody), "nothing", x=1).is_error


def test_a_key_counts_for_tools_too(
    serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent, tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    key, token = new_key("reader", ("read",))
    file.change(lambda every: every.update({key.id: key}))
    config = replace(serve_config, keys=str(file.path))
    running = Running(make_app(config, retriever, student))

    async def run(tool: str, headers: dict[str, str], **arguments: Any) -> Any:
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(f"{running.url}/mcp", http_client=http)
            async with Client(transport) as client:
                return await client.call_tool(tool, arguments)

    mine = {"Authorization": f"Bearer {token}"}
    try:
        found = asyncio.run(run("search_events", mine, text="x", limit=1))
        link = good(found)["events"][0]["clip_url"].partition("#")[0]
        assert httpx2.get(link).status_code == 200
        refused = asyncio.run(run("ask", mine, question="x"))
        assert refused.is_error
        assert "scope 'ask'" in refused.content[0].text
        nobody = asyncio.run(run("search_events", {}, text="x"))
        assert nobody.is_error
        assert "API key is needed" in nobody.content[0].text
    finally:
        running.close()


def test_over_stdio(url: str) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "jobs.cli", "mcp", "--url", url],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )
    assert good(call(server, "list_videos"))["total"] == 3
