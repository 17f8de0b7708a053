"""Videos with sound that is known to the sample, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FPS = 10
BEEP_S = 0.2
_FRAME = 1024


def beeps(times_s: Sequence[float], seconds: float, rate: int = 48_000) -> NDArray[np.float32]:
    """Return (N,) silence with a tone of `BEEP_S` from each of `times_s` on."""
    sound = np.zeros(round(seconds * rate), np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 1000 / rate * np.arange(round(BEEP_S * rate)))
    for time_s in times_s:
        first = round(time_s * rate)
        sound[first : first + len(tone)] = tone[: len(sound) - first]
    return sound


def beeps_heard(blocks: Sequence[Any]) -> list[float]:
    """Return when tones begin in blocks of sound (`types.SoundBlock`), in seconds."""
    times, loud_until_s = [], -np.inf
    for block in blocks:
        loud = np.flatnonzero(np.abs(block.samples) > 0.2)
        for at_s in block.start_s + loud / 16_000:
            if at_s > loud_until_s + BEEP_S / 4:
                times.append(float(at_s))
            loud_until_s = at_s
    return times


def write_sounded(
    path: Path,
    sound: NDArray[np.float32],
    *,
    rate: int = 48_000,
    layout: str = "mono",
    codec: str = "aac",
    seconds: float | None = None,
    sound_from_s: float = 0.0,
    missing_s: tuple[float, float] | None = None,
    fps: int = FPS,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    prepare: Any = None,
) -> Path:
    """Write a video whose picture brightens slowly, with `sound` ((N,) or (C, N)) from a time on.

    missing_s: packets of sound from .. to are left out, as a recorder loses them.
    """
    sound = np.atleast_2d(sound)
    seconds = sound.shape[1] / rate + sound_from_s if seconds is None else seconds
    with av.open(str(path), "w", options=options or {}) as out:
        pictures = out.add_stream("libx264", rate=fps, options={"g": str(fps), "bf": "0"})
        pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv420p"
        pictures.thread_count = 1
        voice: Any = out.add_stream(codec, rate=rate, layout=layout)
        if prepare is not None:
            prepare(out, pictures, voice)
        heard = 0
        for number in range(round(seconds * fps)):
            grey = np.full((size[1], size[0], 3), number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(pictures.encode(frame))
            while heard < sound.shape[1] and heard / rate + sound_from_s <= (number + 1) / fps:
                _mux_sound(out, voice, sound, heard, rate, sound_from_s, missing_s)
                heard += _FRAME
        out.mux(pictures.encode(None))
        if heard:
            _mux(out, voice.encode(None), missing_s)
    return path


def _mux_sound(
    out: Any,
    voice: Any,
    sound: NDArray[np.float32],
    first: int,
    rate: int,
    sound_from_s: float,
    missing_s: tuple[float, float] | None,
) -> None:
    part = np.ascontiguousarray(sound[:, first : first + _FRAME])
    frame = av.AudioFrame.from_ndarray(part, "fltp", voice.layout.name)
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    frame.pts = first + round(sound_from_s * rate)
    _mux(out, voice.encode(frame), missing_s)


def _mux(out: Any, packets: Any, missing_s: tuple[float, float] | None) -> None:
    for packet in packets:
        at_s = float(packet.pts * packet.time_base)
        if missing_s is None or not missing_s[0] <= at_s < missing_s[1]:
            out.mux(packet)
