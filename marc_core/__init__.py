"""MARC's method as plain functions: video to events to memory to compressed tokens to an answer.

    import marc_core
    memory = marc_core.open("runs/memory")
    memory.search("a red circle")
    memory.ask("Which way does it move?", options=["left", "right"])

Nothing in this package imports ray; the distributed wiring lives in `pipelines`, `jobs` and
`serving`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marc_core.session import Session

__version__ = "0.1.0"


def open(
    uri: str | Path,
    *,
    preset: str | None = None,
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> Session:
    """Open a memory with the models that it was indexed with; see `session.open_session`."""
    from marc_core.session import open_session

    return open_session(uri, preset=preset, files=files, overrides=overrides)
