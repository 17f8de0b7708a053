"""Which decoder takes a file: the one place where backends are chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from marc_core.video.decode import Decoding
from marc_core.video.decord_backend import DecordDecoding, require_decord

if TYPE_CHECKING:
    from marc_core.config import VideoConfig
    from marc_core.video.parts import Part


def decode(
    path: str | Path,
    config: VideoConfig,
    *,
    stream: int = 0,
    on_frame: Callable[[], None] | None = None,
    part: Part | None = None,
) -> Decoding | DecordDecoding:
    """Open `path` for one pass: `with decode(path, config) as d: for chunk in d: ...`.

    `stream` is the number of the video stream, 0 the one that players show; `part` is what to
    decode of it (PyAV always), None all. `d.info` is there at
    once, `d.summary` after the last chunk. PyAV decodes, unless `config.backend` asks for decord
    and the file is admitted; the summary says which and why. `on_frame` is called while frames are
    decoded. Raises ConfigError (no decord here), UnreadableVideoError, EmptyVideoError,
    VideoLimitError.
    """
    if config.backend == "pyav" or part is not None:
        return Decoding(path, config, stream=stream, on_frame=on_frame, part=part)
    require_decord()
    decoding = DecordDecoding(path, config, stream=stream, on_frame=on_frame)
    if decoding.refusal is None:
        return decoding
    reason = f"decord refused: {decoding.refusal}"
    return Decoding(path, config, stream=stream, on_frame=on_frame, reason=reason)
