"""Which decoder takes a file: the one place where backends are chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from marc_core.video.decode import Decoding

if TYPE_CHECKING:
    from marc_core.config import VideoConfig


def open_decoding(
    path: str | Path, config: VideoConfig, *, on_frame: Callable[[], None] | None = None
) -> Decoding:
    """Open `path` with the backend that `config.backend` asks for, where it is admitted."""
    return Decoding(path, config, on_frame=on_frame)
