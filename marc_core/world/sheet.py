"""A contact sheet of the world: one row an action, one frame a second.

python -m marc_core.world.sheet docs/images/world.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from marc_core.world.config import WorldConfig
from marc_core.world.describe import describe_event
from marc_core.world.render import render_frames
from marc_core.world.scenes import sample_video
from marc_core.world.words import ACTIONS

FRAMES = 6
SIZE_PX = 96
GAP_PX = 4


def contact_sheet(*, first_seed: int = 100) -> tuple[NDArray[np.uint8], list[str]]:
    """Return (H, W, 3) uint8 with a row for every action, and the captions of the rows.

    Without noise, so that the picture stays small; brightness drift and shake are on.
    """
    rows, captions = [], []
    for i, action in enumerate(ACTIONS):
        config = WorldConfig(
            min_scenes=1, max_scenes=1, actions=(action,), scene_lengths_s=(6.0,), noise=0
        )
        video = sample_video(first_seed + i, config)
        frames = render_frames(video, [0.3 + s for s in range(FRAMES)], size=SIZE_PX)
        padded = np.pad(frames, ((0, 0), (0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255)
        rows.append(np.concatenate(list(padded), axis=1))
        captions.append(describe_event(video.events[0]))
    return np.concatenate(rows), captions


def write_png(image: NDArray[np.uint8], path: Path) -> None:
    """Write an RGB image as PNG."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt = "rgb24"
    encoder.options = {"compression_level": "9", "pred": "mixed"}
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)]))


def main() -> None:
    """Write the sheet and print the rows' captions."""
    parser = argparse.ArgumentParser(description="Contact sheet of the synthetic world.")
    parser.add_argument("path", type=Path)
    image, captions = contact_sheet()
    write_png(image, parser.parse_args().path)
    print("\n".join(captions))


if __name__ == "__main__":
    main()
