"""`marc mcp`: a server's search and answers as tools of a desktop agent, over stdio."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from jobs.common import clear_errors


def mcp(
    url: Annotated[str, typer.Option(help="Address of `marc serve`.")] = "http://127.0.0.1:8000",
) -> None:
    """Offer a server's archive to a desktop agent over stdio (Model Context Protocol).

    The environment variable MARC_API_KEY holds the key, where the server asks for one.

    Example: marc mcp --url http://127.0.0.1:8000
    """
    import asyncio

    from marc_core.errors import ConfigError

    with clear_errors():
        from serving.mcp_tools import over_http, tool_server

        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--url must begin with http:// or https://. Got '{url}'.")
        server = tool_server(over_http(url, os.environ.get("MARC_API_KEY")))
        asyncio.run(server.run_stdio_async())
