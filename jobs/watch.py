"""`marc watch`, and `python -m jobs.watch` for `ray job submit`: live sources into a memory."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, needs_lines, print_json, ray_session
from jobs.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    MemoryOption,
    memory_override,
    quoted,
    split_arguments,
)
from jobs.terminal import counted, say
from marc_core.config import config_to_yaml, load_config
from marc_core.errors import ConfigError
from marc_core.live.addresses import checked, id_of, kind_of, shown, split_name
from marc_core.live.config import WatchJobConfig

if TYPE_CHECKING:
    from pipelines.live import Watch

SAY_S = 15.0
"""Between two lines about how far all sources are (our choice)."""


def watch(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]SOURCE... [KEY=VALUE]...",
            help="Cameras (rtsp://, http://.../live.m3u8, ...), folders that grow, bucket "
            "prefixes; settings as key=value.",
            show_default=False,
        ),
    ] = None,
    memory: MemoryOption = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", "-p", help="Preset: tiny, footage, qwen2.5-vl-3b.", show_default="tiny"
        ),
    ] = None,
    config: ConfigOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster that indexes; default: RAY_ADDRESS, else this process."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", help="Stop after so many seconds.", min=0.0)
    ] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Record cameras and look after growing folders; index what comes at once, until Ctrl-C.

    A source's name is its camera and its tag (source:NAME). What is recorded lies in watch.folder,
    in segments of watch.segment_s; events are searchable seconds after they end. Broken
    connections are made again; what is missing is a gap (`marc status --gaps`). watch.keep_days and
    watch.keep_bytes limit what is kept.

    What is said and written follows the events (text.speech, text.writing); a slow machine does
    that in idle time, and `marc index --only texts` the rest.

    Ctrl-C closes segments and indexes them. What is left is taken up by the next start.

    Example: marc watch gate=rtsp://10.0.0.7/stream1 yard=~/recorder --memory runs/memory
    watch.keep_days=14
    """
    with clear_errors(lambda: "What is recorded and not indexed is taken up by the next start."):
        resolved = resolve(arguments or [], memory, preset, config or [])
        for name, source in resolved.watch.sources.items():
            checked(name, source, resolved.watch.allow)
        if dry_run:
            sys.stdout.write(config_to_yaml(_shown(resolved)))
            sys.stdout.write("".join(f"# {line}\n" for line in needs_lines(resolved)))
            return
        if not resolved.watch.sources:
            raise ConfigError("No source given. Name a camera: marc watch rtsp://camera/stream")
        on_ray = bool(address or os.environ.get("RAY_ADDRESS"))
        with ray_session(address) if on_ray else nullcontext():
            report = _run(resolved, on_ray, seconds)
        if as_json:
            print_json(report)


def resolve(
    arguments: list[str], memory: str | None, preset: str | None, files: list[Path]
) -> WatchJobConfig:
    """Return the configuration, with the sources that are named on the command line."""
    settings = {field.name for field in dataclasses.fields(WatchJobConfig)}
    named = [split_name(argument, settings) for argument in arguments]
    pairs = [(name, rest) for name, rest in named if name is not None]
    plain, overrides = split_arguments([rest for name, rest in named if name is None])
    pairs += [(id_of(address), address) for address in plain]
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        first, second, *_ = (shown(address) for name, address in pairs if name == twice[0])
        raise ConfigError(
            f"Two sources have the id '{twice[0]}'. Give each a name of its own: "
            f"{twice[0]}-1={first} {twice[0]}-2={second}"
        )
    given = [f"watch.sources.{name}.address={quoted(address)}" for name, address in pairs]
    overrides = [*given, *memory_override(memory), *overrides]
    return load_config(WatchJobConfig, preset=preset or "tiny", files=files, overrides=overrides)


def _shown(config: WatchJobConfig) -> WatchJobConfig:
    """Return the configuration with addresses that may be printed."""
    sources = {
        name: dataclasses.replace(source, address=shown(source.address))
        for name, source in config.watch.sources.items()
    }
    return dataclasses.replace(config, watch=dataclasses.replace(config.watch, sources=sources))


def _run(config: WatchJobConfig, on_ray: bool, seconds: float | None) -> dict[str, Any]:
    from pipelines.live import Watch
    from pipelines.live_state import Hooks

    watch = Watch(config, on_ray=on_ray, hooks=Hooks(say=say))
    for name, source in watch.sources.items():
        say(f"{name}: {kind_of(source)} {shown(source.address)}")
    for line in watch.texts.left_out:
        say(line)
    with _stopping() as stop:
        timers = [threading.Thread(target=_say_now_and_then, args=(watch, stop), daemon=True)]
        if seconds is not None:
            timers.append(threading.Thread(target=_stop_after, args=(stop, seconds), daemon=True))
        for timer in timers:
            timer.start()
        watch.run(stop)
    report = watch.report()
    for line in last_lines(report, config):
        say(line)
    return report


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def ask(number: int, _: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        say("Stopping: segments are closed and indexed. Ctrl-C again ends at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_after(stop: threading.Event, seconds: float) -> None:
    time.sleep(seconds)
    stop.set()


def _say_now_and_then(watch: Watch, stop: threading.Event) -> None:
    while not stop.wait(SAY_S):
        for name, state in watch.states.items():
            until = state.searchable_until
            upto = f", searchable until {until:%F %T} UTC" if until else ""
            say(
                f"{name}: {state.state}, {state.indexed:,} of {counted(state.segments, 'video')} "
                f"indexed, {counted(state.events, 'event')}{upto}"
            )
        if watch.texts.put_off:
            say(
                f"texts of {counted(watch.texts.put_off, 'video')} are put off until there is "
                "nothing else to do"
            )


def last_lines(report: dict[str, Any], config: WatchJobConfig) -> Iterator[str]:
    """Yield what a run has done, and what is in the memory now."""
    for name, state in report["sources"].items():
        failed = f", {state['failed']:,} failed" if state["failed"] else ""
        yield (
            f"{name}: {counted(state['indexed'], 'video')} with {counted(state['events'], 'event')}"
            f"{failed}, {counted(state['gaps'], 'gap')}"
        )
    if report["left"]:
        yield f"Not indexed yet: {counted(report['left'], 'video')}, which the next start takes up."
    texts = report["texts"]
    if texts["failed"]:
        yield f"Texts failed of {counted(texts['failed'], 'video')}: see marc status --warnings."
    if texts["left"]:
        yield (
            f"No texts yet: {counted(texts['left'], 'video')}. The next start makes them in idle "
            f"time, or: marc index {_places(config)} --only texts --memory {config.memory.uri}"
        )
    memory = report["memory"]
    yield (
        f"The memory {config.memory.uri} holds {counted(memory['videos'], 'video')}, "
        f"{counted(memory['events'], 'event')}, {memory['hours']:.2f} hours."
    )


def _places(config: WatchJobConfig) -> str:
    """Return where the videos of the sources lie, as words of a command."""
    sources = config.watch.sources.values()
    places = [config.watch.folder] if any(kind_of(s) != "folder" for s in sources) else []
    places += [source.address for source in sources if kind_of(source) == "folder"]
    return shlex.join(places)


def main() -> None:
    """Run `watch` as a program of its own."""
    with clear_errors():
        typer.run(watch)


if __name__ == "__main__":
    main()
