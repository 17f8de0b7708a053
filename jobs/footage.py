"""A small archive that looks like footage: moving pictures with signs in them, and spoken words.

    Shot: ground, sign, spoken clip --write_clip--> mp4 (H.264 + AAC)

The grounds are random landscapes that the picture pans over, each shot's own, so that nothing in
them repeats and cuts are cuts. The spoken clips come with the package (marc_core/world/spoken).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

SIZE = (640, 360)
FPS = 25
_RATE = 48_000
_SAMPLES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A stretch of a clip. colours: of its ground, dark to light. sign: written in it, all the
    time. spoken: name of a spoken clip; said_after_s: seconds from the shot's start."""

    seconds: float
    colours: tuple[str, str]
    sign: str = ""
    spoken: str = ""
    said_after_s: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A video file of several shots. seed: of its grounds."""

    name: str
    seed: int
    shots: tuple[Shot, ...]

    def starts_s(self) -> list[float]:
        """Return the second at which each shot begins."""
        lengths = [shot.seconds for shot in self.shots]
        return [sum(lengths[:i]) for i in range(len(lengths))]


def write_clip(clip: Clip, path: Path, spoken_folder: Path) -> None:
    """Render a clip as mp4. spoken_folder: holds `<name>.ogg` of its spoken clips."""
    import av

    with av.open(str(path), "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        video.width, video.height = SIZE
        video.pix_fmt, video.thread_count = "yuv420p", 1
        sound = out.add_stream("aac", rate=_RATE, layout="mono")
        samples = _sound(clip, spoken_folder)
        for i, picture in enumerate(_pictures(clip)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            out.mux(video.encode(frame))
            while samples and samples[0][0] <= i / FPS:
                _, block = samples.pop(0)
                out.mux(sound.encode(block))
        for _, block in samples:
            out.mux(sound.encode(block))
        out.mux(video.encode())
        out.mux(sound.encode())


def _pictures(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """Yield (H, W, 3) pictures: a window that wanders over each shot's ground, with its sign."""
    for number, shot in enumerate(clip.shots):
        rng = np.random.default_rng([clip.seed, number])
        ground, sign = _ground(shot, rng), _sign(shot.sign)
        count = round(shot.seconds * FPS)
        room = np.array(ground.shape[:2]) - SIZE[::-1]
        way = np.sort(rng.uniform(0, 1, (2, 2)), axis=0)[:: rng.choice([-1, 1])] * room
        for i in range(count):
            top, left = (way[0] + (way[1] - way[0]) * i / count).astype(int)
            picture = ground[top : top + SIZE[1], left : left + SIZE[0]].copy()
            if sign is not None:
                ink, at = np.asarray(sign), (SIZE[1] // 6, SIZE[0] // 10)
                picture[at[0] : at[0] + ink.shape[0], at[1] : at[1] + ink.shape[1]] = ink
            yield picture


def _ground(shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a landscape twice as wide as the picture: noise at five scales, in two colours."""
    from PIL import Image, ImageColor

    width, height = 2 * SIZE[0], SIZE[1] * 4 // 3
    mixed = np.zeros((height, width))
    for octave in range(5):
        cells = 4 * 2**octave
        small = rng.uniform(0, 1, (cells, 2 * cells)).astype(np.float32)
        mixed += np.asarray(Image.fromarray(small).resize((width, height))) / 2**octave
    low, high = mixed.min(), mixed.max()
    share = ((mixed - low) / (high - low))[..., None]
    dark, light = (np.array(ImageColor.getrgb(name)[:3]) for name in shot.colours)
    return np.asarray((1 - share) * dark + share * light).astype(np.uint8)


def _sign(text: str) -> Image | None:
    """Return a board with the text, dark on light."""
    from PIL import Image, ImageDraw, ImageFont

    if not text:
        return None
    font = ImageFont.load_default(30)
    width = round(font.getlength(text)) + 40
    board = Image.new("RGB", (min(width, SIZE[0] * 8 // 10), 64), (244, 240, 226))
    ImageDraw.Draw(board).text((20, 12), text, font=font, fill=(24, 28, 44))
    return board


def _sound(clip: Clip, folder: Path) -> list[tuple[float, object]]:
    """Return (second, audio frame) of the whole clip: silence, and what is spoken in its shots."""
    import av

    track = np.zeros(round(sum(shot.seconds for shot in clip.shots) * _RATE), np.float32)
    for start_s, shot in zip(clip.starts_s(), clip.shots, strict=True):
        if shot.spoken:
            said = spoken_samples(folder / f"{shot.spoken}.ogg")
            first = round((start_s + shot.said_after_s) * _RATE)
            track[first : first + len(said)] += said[: len(track) - first]
    blocks: list[tuple[float, object]] = []
    for first in range(0, len(track), _SAMPLES):
        block = av.AudioFrame.from_ndarray(
            track[None, first : first + _SAMPLES], format="fltp", layout="mono"
        )
        block.sample_rate, block.pts, block.time_base = _RATE, first, Fraction(1, _RATE)
        blocks.append((first / _RATE, block))
    return blocks


def spoken_samples(path: Path) -> NDArray[np.float32]:
    """Return (N,) samples of a spoken clip at 48 kHz."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
    with av.open(str(path)) as source:
        frames = [f for frame in source.decode(audio=0) for f in resampler.resample(frame)]
    return np.concatenate([np.asarray(f.to_ndarray(), np.float32).ravel() for f in frames])


def loud_span_s(samples: NDArray[np.float32]) -> tuple[float, float]:
    """Return the seconds from which on and until which a spoken clip is not silent."""
    loud: Sequence[int] = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max()).tolist()
    return loud[0] / _RATE, (loud[-1] + 1) / _RATE
