"""`marc serve`: search, answers and the page, on one machine or as a cluster's application."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, ray_session
from jobs.options import Args, ConfigOption, DryRunOption, MemoryOption, PresetOption
from jobs.terminal import out, say
from marc_core.config import config_to_yaml

if TYPE_CHECKING:
    from serving.config import ServeConfig

UPLOADS = "runs/uploads"
WEIGHTS = "runs/weights.json"


def serve(
    settings: Args = None,
    memory: MemoryOption = None,
    preset: PresetOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to.")] = None,
    keys: Annotated[
        str | None, typer.Option(help="File of API keys (marc keys create).", show_default=False)
    ] = None,
    uploads: Annotated[
        str | None,
        typer.Option(help="Folder of uploads and their queue.", show_default=UPLOADS),
    ] = None,
    config: ConfigOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to join, or local; default: RAY_ADDRESS, or a local Ray."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Serve a memory: an OpenAI-compatible API, search, MCP, and a page for people.

    Without keys it answers this machine only. Ctrl-C ends it once what is under way is answered.

    Example: marc serve --memory runs/memory --port 8000
    """
    named = {"memory": memory, "preset": preset, "host": host, "port": port, "keys": keys}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if uploads is not None:
        given["uploads"] = {"folder": uploads}
    with clear_errors():
        from serving.config import load_serve_config, method_of

        resolved = with_places(
            load_serve_config(given, files=config or (), overrides=settings or ())
        )
        if dry_run:
            out.print(config_to_yaml(resolved), markup=False, highlight=False)
            return
        method_of(resolved)  # says what is wrong with the memory before Ray takes its time
        with ray_session(address):
            _run(resolved)


def with_places(config: ServeConfig) -> ServeConfig:
    """Return the configuration with a folder of uploads and a file of weights, as absolute paths:
    replicas have other working directories."""
    uploads = os.path.abspath(config.uploads.folder or UPLOADS)
    weights = os.path.abspath(config.weights.file or WEIGHTS)
    return replace(
        config,
        uploads=replace(config.uploads, folder=uploads),
        weights=replace(config.weights, file=weights),
    )


def _run(config: ServeConfig) -> None:
    from ray import serve as ray_serve

    from serving.app import application

    done = threading.Event()
    _on_signals(done)
    options: Any = {"host": config.host, "port": config.port}
    ray_serve.start(
        proxy_location="HeadOnly", http_options=options, logging_config={"log_level": "WARNING"}
    )
    try:
        ray_serve.run(application(config), name="marc", route_prefix="/")
        say(f"serving {config.memory} at http://{config.host}:{config.port}")
        done.wait()
        say("draining")
    finally:
        ray_serve.shutdown()


def _on_signals(done: threading.Event) -> None:
    """End at Ctrl-C and SIGTERM; in the main thread, the only one that signals reach."""
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: done.set())
