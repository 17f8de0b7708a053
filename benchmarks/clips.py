"""Clips that benchmarks render themselves, and the name of the hardware they ran on."""

from __future__ import annotations

import os
import platform
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from marc_core.types import SOUND_RATE
from marc_core.world.sentences import SENTENCES, spoken_at

_BLOCK = 1024
"""Samples of sound in a frame of AAC."""


def render_clip(
    path: Path,
    *,
    seconds: float,
    seed: int = 0,
    fps: int = 25,
    size: tuple[int, int] = (1280, 720),
    codec: str = "libx264",
    cut_every_s: float = 5.0,
    options: dict[str, str] | None = None,
    sign: str = "",
) -> Path:
    """Write panning textures with film-like noise and hard cuts; nothing if `path` exists.

    1.1 Mbit/s at 720p25 h264 with the default options. sign: written in every picture.
    """
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    width, height = size
    noise = rng.normal(0, 4, (8, height, width, 1)).astype(np.int16)
    board = _board(sign, height)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part" + path.suffix)
    with av.open(str(part), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 2
        for i in range(round(seconds * fps)):
            if i % round(cut_every_s * fps) == 0:
                picture = texture(rng, width, height)
                speed = rng.integers(-4, 5, 2)
            moved = np.roll(picture, tuple(speed * i), (0, 1)).astype(np.int16)
            moved[height // 6 : height // 6 + len(board), 60 : 60 + board.shape[1]] = board
            moved += noise[i % len(noise)]
            frame = av.VideoFrame.from_ndarray(moved.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.rename(path)
    return path


def render_fixed_camera(
    path: Path,
    *,
    seconds: float,
    seed: int = 0,
    fps: int = 25,
    size: tuple[int, int] = (1280, 720),
    pace: float = 1.0,
) -> Path:
    """Write what a fixed camera sees: one picture with noise, a small figure that walks through it
    and back `pace` times a minute; nothing if `path` exists.
    """
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    width, height = size
    noise = rng.normal(0, 4, (8, height, width, 1)).astype(np.int16)
    picture = texture(rng, width, height).astype(np.int16)
    tall, wide = height // 6, width // 24
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part" + path.suffix)
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 2
        for i in range(round(seconds * fps)):
            seen = picture + noise[i % len(noise)]
            left = round(abs(i / fps * pace % 60 - 30) / 30 * (width - wide))
            seen[height // 2 : height // 2 + tall, left : left + wide] = 40
            frame = av.VideoFrame.from_ndarray(seen.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.rename(path)
    return path


def with_speech(path: Path, out: Path, *, seconds: float) -> Path:
    """Write a clip again with sentences spoken to it, one every 5.5 s; nothing if `out` exists."""
    if out.exists():
        return out
    starts_s = np.arange(0.5, seconds - 3.0, 5.5).tolist()
    sound = np.zeros(round(seconds * SOUND_RATE), np.float32)
    for start_s, name in zip(starts_s, cycle(SENTENCES), strict=False):
        sound += spoken_at({name: start_s}, seconds)
    part = out.with_suffix(".part" + out.suffix)
    with av.open(str(path)) as given, av.open(str(part), "w") as container:
        pictures = container.add_stream_from_template(given.streams.video[0])
        voice: Any = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        heard = 0
        for packet in given.demux(video=0):
            while heard < len(sound) and (
                packet.dts is None or heard / SOUND_RATE < packet.dts * packet.time_base
            ):
                block = _block(sound[heard : heard + _BLOCK], heard)
                container.mux(voice.encode(block))
                heard += _BLOCK
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        container.mux(voice.encode(None))
    part.rename(out)
    return out


def _block(samples: NDArray[np.float32], first: int) -> av.AudioFrame:
    block = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    block.sample_rate, block.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
    block.pts = first
    return block


def repeated(path: Path, out: Path, *, times: int) -> Path:
    """Write a clip several times in a row, packet by packet; nothing if `out` exists."""
    if out.exists():
        return out
    part = out.with_suffix(".part" + out.suffix)
    with av.open(str(part), "w") as container:
        target: Any = None
        for i in range(times):
            with av.open(str(path)) as given:
                stream = given.streams.video[0]
                target = target or container.add_stream_from_template(stream)
                assert stream.duration
                for packet in given.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts += i * stream.duration
                        packet.dts += i * stream.duration
                        packet.stream = target
                        container.mux(packet)
    part.rename(out)
    return out


def _board(sign: str, height: int) -> NDArray[np.int16]:
    """Return (H, W, 3) of a board with letters of a twentieth of the picture's height."""
    if not sign:
        return np.zeros((0, 0, 3), np.int16)
    font = ImageFont.load_default(height // 20)
    board = Image.new("RGB", (round(font.getlength(sign)) + 40, height // 12), (244, 240, 226))
    ImageDraw.Draw(board).text((20, height // 80), sign, font=font, fill=(24, 28, 44))
    return np.asarray(board).astype(np.int16)


def texture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Smooth random colours at three scales, like a defocused photograph with some detail."""
    total = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((160, 0.6), (40, 0.3), (8, 0.1)):
        small = rng.uniform(0, 255, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        image = small.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        total += weight * image
    return total.clip(0, 255).astype(np.uint8)


def hardware() -> str:
    """Return cores and processor family, as committed results name them."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores, {name}, shared machine"
