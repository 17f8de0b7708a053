"""The options of a filter over events, alike for every command that asks a memory."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

_OPTIONS: dict[str, tuple[str, Any, str]] = {
    "video": ("--video", list[str], "Only this video (id, address or file name)."),
    "folder": ("--folder", str, "Only videos in or below this folder."),
    "camera": ("--camera", str, "Only this camera."),
    "tags": ("--tag", list[str], "Only events with this tag."),
    "since": ("--since", str, "Only what was recorded after this time: 2026-05-01T08:00Z."),
    "until": ("--until", str, "Only what was recorded before this time."),
    "start_s": ("--from", float, "Only after this second of the video."),
    "end_s": ("--to", float, "Only before this second."),
}
"""Argument of `Session.filter`: its option, type and help."""


def with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with the options of a filter; it gets them as `where`, arguments of
    `Session.filter`."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        where = {name: given.pop(name) for name in _OPTIONS}
        command(**given, where=where | {"tags": where["tags"] or ()})

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "where"]
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(option, help=text)],
        )
        for name, (option, kind, text) in _OPTIONS.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return run
