"""The options of a filter over events, alike for every command that asks a memory."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

_TIMES = (
    "2026-05-01T08:00+02:00, 2h (ago), and with clock.zone=Europe/Berlin yesterday, "
    "2026-05-01 08:00"
)
_OPTIONS: dict[str, tuple[str, Any, str]] = {
    "video": ("--video", list[str], "Only this video (id, address or file name)."),
    "folder": ("--folder", str, "Only videos in or below this folder."),
    "camera": ("--camera", str, "Only this camera."),
    "tags": ("--tag", list[str], "Only events with this tag."),
    "since": ("--since", str, f"Only what was recorded after this: {_TIMES}."),
    "until": ("--until", str, "Only what was recorded before this time."),
    "start_s": ("--from", float, "Only after this second of the video."),
    "end_s": ("--to", float, "Only before this second."),
    "kinds": (
        "--kind",
        list[str],
        "Only events with text of this kind (speech, writing, caption, sidecar); may be repeated.",
    ),
}
"""Argument of `Session.filter`: its option, type and help."""


Command = Callable[..., None]


def with_filter(*, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the options of a filter, but for some; the command
    gets them as `where`, arguments of `Session.filter`."""
    options = {name: option for name, option in _OPTIONS.items() if name not in without}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            where = {name: given.pop(name) for name in options}
            where |= {name: where[name] or () for name in ("tags", "kinds") if name in where}
            command(**given, where=where)

        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "where"]
        every = [*own, *(_parameter(name, *option) for name, option in options.items())]
        run.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in every}
        return run

    return decorate


def _parameter(name: str, option: str, kind: Any, text: str) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(option, help=text)],
    )
