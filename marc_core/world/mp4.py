"""Real mp4 files of the world's videos, the same byte for byte on every run.

Two things had to be taken out of libraries' hands. x264's macroblock tree gave other bytes from
run to run on a machine with AVX-512, even with one thread, and its faster code paths round
otherwise than its C code; so the tree is off and only paths that equal the C code are used. The
conversion to YUV is our own integer arithmetic, because libswscale's depends on the machine.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from marc_core.errors import ConfigError
from marc_core.types import SYNTHETIC_COMMENT
from marc_core.world.render import render_frames
from marc_core.world.types import WorldVideo

CRF = 23
"""Constant quality of x264, its default."""
CHUNK_FRAMES = 64
_LUMA = (66, 129, 25)
_BLUE = (-38, -74, 112)
_RED = (112, -94, -18)


def write_mp4(video: WorldVideo, path: str | Path) -> Path:
    """Write `video` as h264 mp4 at its fps and `size_px`, and return the path.

    Frame i is rendered at i / fps; a file has round(duration_s * fps) frames. One encoder thread
    and fixed settings: the same PyAV version writes the same bytes. The file appears under its
    name only when it is complete. It says that it is synthetic, and so does a file beside it.
    Raises ConfigError when `size_px` is odd.
    """
    size, fps = video.config.size_px, video.fps
    if size % 2:
        raise ConfigError(f"h264 needs an even size_px. Got {size}; take {size + 1}.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    count = round(video.duration_s * fps)
    with av.open(str(partial), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = SYNTHETIC_COMMENT
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(CRF), "preset": "veryfast", "x264-params": _x264_params()}
        for first in range(0, count, CHUNK_FRAMES):
            times_s = np.arange(first, min(first + CHUNK_FRAMES, count)) / fps
            for image in render_frames(video, times_s.tolist()):
                frame = av.VideoFrame.from_ndarray(to_yuv420(image), format="yuv420p")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    mark_synthetic(path)
    partial.replace(path)
    return path


def mark_synthetic(path: Path) -> None:
    """Say in the file beside a video that it is rendered (marc_core.text.sidecar), where it does
    not yet; what else the file says stays."""
    file = path.with_suffix(".json")
    said = json.loads(file.read_text()) if file.is_file() else {}
    if said.get("synthetic") is not True:
        file.write_text(json.dumps(said | {"synthetic": True}) + "\n")


def _x264_params() -> str:
    """Return settings under which x264 equals its portable C code (SSE2 does, AVX does not)."""
    portable = "asm=SSE2" if platform.machine() in ("x86_64", "AMD64") else "no-asm=1"
    return f"threads=1:mbtree=0:{portable}"


def to_yuv420(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H * 3 / 2, W) uint8 planes Y, U, V of an RGB image (H, W, 3), H and W even.

    BT.601, limited range; a chroma sample is the mean of its four pixels.
    """
    pixels = image_HWC.astype(np.int32)
    fours = pixels[::2, ::2] + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]
    luma = (_mix(pixels, _LUMA) + 128 >> 8) + 16
    blue = (_mix(fours, _BLUE) + 512 >> 10) + 128
    red = (_mix(fours, _RED) + 512 >> 10) + 128
    planes = np.concatenate([luma.ravel(), blue.ravel(), red.ravel()])
    return planes.astype(np.uint8).reshape(-1, image_HWC.shape[1])


def _mix(pixels: NDArray[np.int32], weights: tuple[int, int, int]) -> NDArray[np.int32]:
    r, g, b = weights
    return pixels[..., 0] * r + pixels[..., 1] * g + pixels[..., 2] * b
