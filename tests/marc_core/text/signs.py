"""Videos and pictures with writing in them, drawn with the font that Pillow carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont


def sign(
    *lines: str,
    size: tuple[int, int] = (640, 360),
    height_px: int = 32,
    ink: int = 235,
    ground: int = 60,
    turned_deg: float = 0.0,
) -> NDArray[np.uint8]:
    """Return (H, W, 3) with `lines` below each other on a noisy ground."""
    noise = np.random.default_rng(3).integers(-10, 10, (size[1], size[0], 1))
    picture = Image.fromarray((ground + noise).repeat(3, 2).astype(np.uint8))
    ink_only = Image.new("L", size)
    draw, font = ImageDraw.Draw(ink_only), ImageFont.load_default(height_px)
    for i, line in enumerate(lines):
        draw.text((size[0] // 12, size[1] // 4 + 2 * i * height_px), line, font=font, fill=255)
    picture.paste((ink, ink, ink), mask=ink_only.rotate(turned_deg))
    return np.asarray(picture)


def write_shots(
    path: Path,
    shots: Sequence[tuple[NDArray[np.uint8], float]],
    *,
    fps: int = 10,
    keyframes: Sequence[float] = (),
) -> Path:
    """Write still shots of (picture, seconds); keyframes at these times alone, and at the start."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"g": "9999", "sc_threshold": "0"})
        stream.height, stream.width = shots[0][0].shape[:2]
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        pictures = [picture for picture, seconds in shots for _ in range(round(seconds * fps))]
        keys = {round(time_s * fps) for time_s in keyframes}
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pict_type = av.video.frame.PictureType.I if i in keys else 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
