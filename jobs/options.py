"""Command-line options that several commands share, and how they become a configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

from marc_core.config import IndexConfig, MemoryConfig, load_config
from marc_core.configure import quoted
from marc_core.errors import ConfigError


def setting(example: str) -> Any:
    """Return the argument for settings of a command; `example` is one that this command takes."""
    return typer.Argument(
        metavar="[KEY=VALUE]...", help=f"Settings, e.g. {example}", show_default=False
    )


AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join, or local, which starts one; default: RAY_ADDRESS, else the one "
        "that runs on this machine, else local."
    ),
]
MEMORY = MemoryConfig().uri
"""Where a memory lies unless one is named, seen from the working directory."""
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        "-m",
        help="Folder or bucket address of the memory.",
        show_default=MEMORY,
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help="Preset: tiny, qwen2.5-vl-3b, or footage, which searches and has no student.",
    ),
]
BucketSettings = Annotated[list[str] | None, setting("memory.storage_options.region=eu-west-1")]
"""Settings of a command that opens a memory and needs nothing else of a configuration."""
CONFIGS_DIR = Path(__file__).parent / "configs"


def config_file(given: str) -> Path:
    """Return the file that `--config` names: a path, or one of jobs/configs without its ending.

    Raises ConfigError for a name that is neither.
    """
    shipped = CONFIGS_DIR / f"{given}.yaml"
    if not (shipped.is_file() or Path(given).exists() or Path(given).name != given or "." in given):
        names = ", ".join(sorted(path.stem for path in CONFIGS_DIR.glob("*.yaml")))
        raise ConfigError(
            f"The configuration '{given}' does not exist, as a file or as a shipped one: {names}."
        )
    return shipped if shipped.is_file() and not Path(given).exists() else Path(given)


ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        parser=config_file,
        metavar="FILE",
        help="YAML file, or a shipped one by its name in jobs/configs. May be repeated.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")
]

_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=.*", re.DOTALL)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (plain arguments, key=value settings)."""
    overrides = [a for a in arguments if _OVERRIDE.fullmatch(a)]
    return [a for a in arguments if a not in overrides], overrides


def memory_override(memory: str | None) -> list[str]:
    """Return the setting of `--memory`, if it was given."""
    return [] if memory is None else [f"memory.uri={quoted(memory)}"]


def open_memory(
    memory: str | None, files: Sequence[Path] | None, overrides: Sequence[str] | None
) -> MemoryStore:
    """Return the opened memory; `files` may be those it was indexed with, credentials and all."""
    from marc_core.memory import MemoryStore

    given = [*memory_override(memory), *(overrides or ())]
    return MemoryStore.open(load_config(IndexConfig, files=files or (), overrides=given).memory)
