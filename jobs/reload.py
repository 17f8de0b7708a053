"""`marc reload`: another checkpoint for the student of a running `marc serve`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from jobs.common import clear_errors, print_json
from jobs.options import (
    ConfigOption,
    JsonOption,
    MemoryOption,
    PresetOption,
    split_arguments,
)
from jobs.serve import with_places
from jobs.terminal import say
from marc_core.errors import ConfigError


def reload(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECKPOINT [KEY=VALUE]...",
            help="Directory of the checkpoint, which every replica sees.",
            show_default=False,
        ),
    ] = None,
    memory: MemoryOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    base: Annotated[
        bool, typer.Option("--base", help="Back to the checkpoint of the memory's configuration.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Exchange the student's weights while it serves; no question fails.

    Name the memory and settings of the server. The checkpoint is checked first: same student, same
    vision tower, finite numbers. Then each replica takes it in its turn; answers under way end on
    the old weights.

    Example: marc reload runs/cgrpo/checkpoints/step-200 --memory runs/memory
    """
    with clear_errors():
        from serving.config import load_serve_config, method_of
        from serving.weights import WeightsFile, check_checkpoint

        named, overrides = split_arguments(arguments or [])
        if len(named) != (0 if base else 1):
            raise ConfigError("Name one checkpoint, or --base: marc reload DIRECTORY")
        asked = {"memory": memory, "preset": preset}
        given = {name: value for name, value in asked.items() if value is not None}
        resolved = with_places(load_serve_config(given, files=config or (), overrides=overrides))
        path = "" if base else os.path.abspath(named[0])
        if path and not os.path.isdir(path):
            raise ConfigError(f"The folder '{path}' does not exist. Name that of a checkpoint.")
        student = method_of(resolved).student
        if path:
            check_checkpoint(path, student, whole=True)
        wanted = WeightsFile(resolved.weights.file, student).want(path)
    if as_json:
        print_json({"version": wanted.version, "path": wanted.path, "file": resolved.weights.file})
    else:
        say(
            f"Weights {wanted.version} are named in {resolved.weights.file}. Replicas look every "
            f"{resolved.weights.look_s:g} s and take them one after the other; /ready says which "
            "are loaded, or why not."
        )
