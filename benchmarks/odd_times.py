"""Small videos whose clock is odd: outliers, jumps, restarts, shared stamps, false durations.

Scenes are plain colours with a pattern of their own, so that a frame tells its scene by its mean
colour and the shot detector sees every cut. A file's pictures come in the order given here; only
what the container says of their times is odd.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SIZE = (96, 64)
COLOURS = {
    "red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 180, 30),
    "yellow": (210, 210, 40), "white": (230, 230, 230), "black": (16, 16, 16),
}  # fmt: skip
FIVE = ("red", "blue", "green", "yellow", "white")

_START_MS = 2**33
"""Stamps are written from here, so that their fields are wide enough for any other."""
_SEGMENT, _CLUSTER, _INFO = 0x18538067, 0x1F43B675, 0x1549A966
_TIMESTAMP, _DURATION = 0xE7, 0x4489


def picture(colour: str, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Return (H, W, 3) of a colour; black is plain, every other one has stripes of its own."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    seed = list(COLOURS).index(colour)
    stripes = ((x * (seed + 1) + y * (5 - seed)) // 12 % 2) * 24 - 12
    if colour == "black":
        stripes = np.zeros_like(x)
    pixels = np.array(COLOURS[colour]) + stripes[..., None]
    return pixels.clip(0, 255).astype(np.uint8)


def colour_of(frame_HWC: NDArray[np.uint8]) -> str:
    """Return the colour that a frame was painted in."""
    mean = frame_HWC.reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


def scenes(seconds: float = 2.0, fps: int = 25, colours: Sequence[str] = FIVE) -> list[str]:
    """Return the colour of each frame of a film of equal scenes."""
    return [colour for colour in colours for _ in range(round(seconds * fps))]


def write_film(
    path: Path,
    colours: Sequence[str],
    pts_ms: Sequence[int] | None = None,
    *,
    fps: int = 25,
    options: dict[str, str] | None = None,
    shifts_ms: dict[int, int] | None = None,
    codec: str = "libx264",
    codec_options: dict[str, str] | None = None,
    tick: Fraction = Fraction(1, 1000),
) -> Path:
    """Write one frame per colour, at increasing `pts_ms` or evenly.

    shifts_ms: frames whose stamp alone is moved later, decoding order kept. tick: of the encoder's
    clock; MPEG-1 and 2 take that of their frame rates only.
    """
    with av.open(str(path), "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.thread_count = 1
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": "0", "g": "1"}
        stream.options |= codec_options or {}
        stream.codec_context.time_base = tick
        painted = {
            colour: av.VideoFrame.from_ndarray(picture(colour), "rgb24").reformat(format="yuv420p")
            for colour in set(colours)
        }
        for i, colour in enumerate(colours):
            frame = painted[colour]
            time_s = Fraction(i, fps) if pts_ms is None else Fraction(pts_ms[i], 1000)
            frame.pts, frame.time_base = int(time_s / tick), tick
            for number, packet in enumerate(stream.encode(frame), start=i):
                if shifts_ms and number in shifts_ms:
                    assert packet.time_base is not None
                    packet.pts += round(Fraction(shifts_ms[number], 1000) / packet.time_base)
                out.mux(packet)
        out.mux(stream.encode())
    return path


def write_stamped(
    path: Path,
    colours: Sequence[str],
    stamps_ms: Sequence[int],
    duration_s: float | None = None,
    *,
    fps: int = 25,
) -> Path:
    """Write a Matroska file whose frames bear any stamps >= 0, and any Duration."""
    even = [_START_MS + 40 * i for i in range(len(colours))]
    options = {"cluster_time_limit": "1", "avoid_negative_ts": "disabled"}
    write_film(path, colours, even, options=options, fps=fps)
    data = bytearray(path.read_bytes())
    clusters = 0
    for kind, start, size in list(_elements(data, 0, len(data))):
        if kind == _TIMESTAMP:
            data[start : start + size] = stamps_ms[clusters].to_bytes(size, "big")
            clusters += 1
        elif kind == _DURATION:
            seconds = len(colours) / fps if duration_s is None else duration_s
            data[start : start + size] = struct.pack(">d", seconds * 1000)
    assert clusters == len(colours), "every frame has a cluster of its own"
    path.write_bytes(data)
    return path


def _elements(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (id, start of content, size) of EBML elements, those inside segments, too."""
    while at < end:
        kind, at = _number(data, at, keep_marker=True)
        size, at = _number(data, at, keep_marker=False)
        if kind in (_SEGMENT, _CLUSTER, _INFO):
            yield from _elements(data, at, min(at + size, end))
        else:
            yield kind, at, size
        at += size


def _number(data: bytearray, at: int, *, keep_marker: bool) -> tuple[int, int]:
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return value if keep_marker else value & ((1 << 7 * length) - 1), at + length


def write_segments(path: Path, colours: Sequence[str], starts_s: Sequence[float]) -> Path:
    """Write transport stream segments of equal numbers of frames, one after the other.

    The clock of each begins at its own start.
    """
    each = len(colours) // len(starts_s)
    parts = []
    for i, start_s in enumerate(starts_s):
        part = path.with_name(f"part{i}.ts")
        pts = [round(start_s * 1000) + 40 * k for k in range(each)]
        options = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
        write_film(part, colours[i * each : (i + 1) * each], pts, options=options)
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path
