"""Real mp4 files of the world's videos, the same byte for byte on every run."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from marc_core.errors import ConfigError
from marc_core.world.render import render_frames
from marc_core.world.types import WorldVideo

CRF = 20
"""Constant quality of x264: clean enough that noise is still noise (our choice)."""
CHUNK_FRAMES = 64


def write_mp4(video: WorldVideo, path: str | Path) -> Path:
    """Write `video` as h264 mp4 at its fps and `size_px`, and return the path.

    Frame i is rendered at i / fps; a file has round(duration_s * fps) frames. One encoder thread
    and fixed settings: the same PyAV build writes the same bytes. The file appears under its name
    only when it is complete. Raises ConfigError when `size_px` is odd.
    """
    size, fps = video.config.size_px, video.fps
    if size % 2:
        raise ConfigError(f"h264 needs an even size_px. Got {size}; take {size + 1}.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    count = round(video.duration_s * fps)
    with av.open(str(partial), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        stream.options = {"crf": str(CRF), "preset": "veryfast", "x264-params": "threads=1"}
        for first in range(0, count, CHUNK_FRAMES):
            times_s = np.arange(first, min(first + CHUNK_FRAMES, count)) / fps
            for image in render_frames(video, times_s.tolist()):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    partial.replace(path)
    return path
