"""What every entry point shares: errors as one line, output for people or machines."""

from __future__ import annotations

import json
import sys
from typing import Any

from jobs.errors import clear_errors
from jobs.ray_session import ray_session
from jobs.terminal import console
from marc_core.config import MethodConfig

__all__ = [
    "clear_errors",
    "console",
    "needs_lines",
    "print_json",
    "ray_session",
]


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def needs_lines(config: MethodConfig) -> list[str]:
    """Return a line a model: what it needs of memory, read from its files' headers."""
    from marc_core.models.needs import model_needs

    return [str(need) for need in model_needs(config)]
