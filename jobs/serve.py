"""`marc serve`: search, answers and the page, on one machine or as a cluster's application."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, ray_session
from jobs.options import (
    ConfigOption,
    DryRunOption,
    MemoryOption,
    PresetOption,
    setting,
)
from jobs.places import absolute
from jobs.terminal import counted, out, say
from marc_core.config import config_to_yaml
from marc_core.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from jobs.ray_session import Cluster
    from marc_core.config import AnswerConfig
    from serving.config import ServeConfig

UPLOADS = "runs/uploads"
WEIGHTS = "runs/weights.json"
NAME = "marc"
"""Of the application."""
LOOK_S = 2.0
"""Between two looks whether the Ray that it runs on is still there (our choice)."""


def serve(
    settings: Annotated[list[str] | None, setting("limits.requests_per_minute=60")] = None,
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
        typer.Option(
            help="Ray cluster to join (HOST:PORT, or auto: the one of this machine); default: "
            "RAY_ADDRESS, or a Ray of its own."
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Serve a memory: an OpenAI-compatible API, search, MCP, and a page for people.

    Without keys it answers this machine only. Ctrl-C ends it once what is under way is answered.
    It starts a Ray of its own, which ends with it and with nothing else, unless told to join one.

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
        method = method_of(resolved)  # says what is wrong with the memory before Ray takes its time
        if dry_run:
            out.print(config_to_yaml(resolved), markup=False, highlight=False)
            return
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if address == "local":
            check_port(resolved.host, resolved.port)
        with ExitStack() as ending, ray_session(address) as cluster:
            _run(resolved, method, cluster, ending)


def with_places(config: ServeConfig) -> ServeConfig:
    """Return the configuration with a folder of uploads and a file of weights, and all paths
    absolute: the replicas of a Ray that somebody else has started have other working directories.
    """
    uploads, media = config.uploads, config.media
    return replace(
        config,
        memory=absolute(config.memory),
        keys=absolute(config.keys),
        files=tuple(map(absolute, config.files)),
        uploads=replace(
            uploads,
            folder=absolute(uploads.folder or UPLOADS),
            roots=tuple(map(absolute, uploads.roots)),
        ),
        media=replace(media, cache_folder=absolute(media.cache_folder)),
        weights=replace(config.weights, file=absolute(config.weights.file or WEIGHTS)),
    )


def _run(config: ServeConfig, method: AnswerConfig, cluster: Cluster, ending: ExitStack) -> None:
    """Serve until Ctrl-C. `ending` lasts until Ray has ended, too. Raises ClusterError where the
    application cannot start, and when the cluster ends before."""
    from ray import serve as ray_serve

    from serving.app import application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    started, done = threading.Event(), threading.Event()
    _on_signals(started, done)
    shares = _shared_serve(config.host, config.port)
    say("starting: opens the memory, loads the models")
    options: Any = {"host": config.host, "port": config.port}
    try:
        ray_serve.start(
            proxy_location="HeadOnly",
            http_options=options,
            logging_config={"log_level": "WARNING", "encoding": "JSON"},
        )
        try:
            ray_serve.run(application(config), name=NAME, route_prefix="/")
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ClusterError(
                f"The application did not start: {reason} `ray status` shows what the cluster has; "
                "replicas' own messages are in the logs of Ray's session."
            ) from error
        for line in greeting(config, method):
            say(line)
        started.set()
        while not done.wait(LOOK_S):
            if not cluster.answers():
                raise cluster.ended()
        say("ending: answers what is under way (Ctrl-C again: at once)")
        until_answered(ray_serve.get_app_handle(NAME), config.gateway.drain_s)
    finally:
        # What Ray says of its own end is nobody's concern.
        ending.enter_context(redirect_stdout(io.StringIO()))
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        if cluster.answers():
            ray_serve.delete(NAME) if shares else ray_serve.shutdown()


def until_answered(gateway: Any, seconds: float) -> None:
    """Return when the gateway is answering nothing any more, or after so many seconds.

    Serve ends its HTTP proxies at once, with what they are sending. A gateway that cannot be asked
    has ended.
    """
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    deadline = time.monotonic() + seconds
    with suppress(RayError, RayServeException, TimeoutError):
        while time.monotonic() < deadline:
            if not gateway.under_way.remote().result(timeout_s=5):
                return
            time.sleep(0.1)


def _shared_serve(host: str, port: int) -> bool:
    """Return whether Serve runs on the joined Ray already. Raises ClusterError where it listens
    elsewhere than at `host` and `port`: a Ray has one Serve; and where MARC runs there already."""
    from ray import serve as ray_serve
    from ray.serve.context import _get_global_client

    running = _get_global_client(raise_if_no_controller_running=False)
    if running is not None:
        check_same_place(running.http_config.host, running.http_config.port, host, port)
        check_nobody_serves(list(ray_serve.status().applications), host, port)
    return running is not None


def check_same_place(its_host: str, its_port: int, host: str, port: int) -> None:
    """Raise ClusterError unless the Serve that runs listens where this one shall."""
    if (its_host, its_port) != (host, port):
        raise ClusterError(
            f"On the joined Ray, Serve runs already and listens at {its_host}:{its_port}; a Ray "
            f"has one Serve, so {host}:{port} would be ignored. Start a Ray for this server "
            f"(--address local), share that place (--host {its_host} --port {its_port}), or end "
            "that Serve (`serve shutdown`)."
        )


def check_nobody_serves(applications: list[str], host: str, port: int) -> None:
    """Raise ClusterError where another `marc serve` would be replaced and end with this one."""
    if NAME in applications:
        raise ClusterError(
            f"On the joined Ray, MARC serves already at {host}:{port}. Start a Ray for this server "
            "(--address local), or end that one: Ctrl-C where it runs, or `serve shutdown` where "
            "nobody is left to end it."
        )


def greeting(config: ServeConfig, method: AnswerConfig) -> list[str]:
    """Return what a person needs to know of a server that has started, a fact a line."""
    from marc_core.memory import MemoryStore
    from serving.weights import WeightsFile

    tables = MemoryStore.open(method.memory).tables
    videos, events = tables.videos.count_rows("num_events > 0"), tables.events.count_rows()
    place = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{place}:{config.port}"
    weights, _ = WeightsFile(config.weights.file, method.student).read()
    student = method.student.model + (f", weights {weights.path}" if weights.path else "")
    who = f"keys of {config.keys}" if config.keys else "no keys: this machine only"
    holds = f"{counted(videos, 'video')}, {counted(events, 'event')}"
    return [
        f"serving {config.memory}: {holds}, student {student}",
        f"  page     {url}/",
        f"  API      {url}/v1 (model '{config.model}', {who})",
        f"  agents   {url}/mcp",
        f"  uploads  {config.uploads.folder}",
        "Ctrl-C ends it.",
    ]


def check_port(host: str, port: int) -> None:
    """Raise ConfigError where something listens at this machine's address already."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened at: {error.strerror}. Choose another port "
            f"(--port {port % 65_535 + 1}), or end what listens there."
        ) from error


def _on_signals(started: threading.Event, done: threading.Event) -> None:
    """End at Ctrl-C and SIGTERM; at once while starting, and at the second one. In the main thread,
    the only one that signals reach."""

    def end(*_: Any) -> None:
        if done.is_set() or not started.is_set():
            raise KeyboardInterrupt
        done.set()

    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, end)
