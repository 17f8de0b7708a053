"""What people see: display matrices and pixels that are not square."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from marc_core.config import VideoConfig
from marc_core.video import admit_decord, decode, probe, read_frames
from marc_core.video.orientation import UPRIGHT, orientation

CONFIG = VideoConfig()
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220),
           "white": (240, 240, 240)}  # fmt: skip
STORED = ("red", "green", "blue", "white")
"""Top left, top right, bottom left, bottom right of every file of this module, as stored."""

UNIT = 1 << 16
SHOWN = {
    "as stored": ((1, 0, 0, 1), ("red", "green", "blue", "white")),
    "mirrored left to right": ((-1, 0, 0, 1), ("green", "red", "white", "blue")),
    "mirrored top to bottom": ((1, 0, 0, -1), ("blue", "white", "red", "green")),
    "half turn": ((-1, 0, 0, -1), ("white", "blue", "green", "red")),
    "quarter clockwise": ((0, 1, -1, 0), ("blue", "red", "white", "green")),
    "quarter counter-clockwise": ((0, -1, 1, 0), ("green", "white", "red", "blue")),
    "transposed": ((0, 1, 1, 0), ("red", "blue", "green", "white")),
    "transposed on the other diagonal": ((0, -1, -1, 0), ("white", "green", "blue", "red")),
}
"""Matrix (a, b, c, d) and the corners that FFmpeg's autorotation shows."""


def write_quadrants(path: Path, *, codec="libx264", shape: Fraction | None = None) -> Path:
    """Write 12 frames of 96 x 64 with four coloured quadrants."""
    picture = np.zeros((64, 96, 3), np.uint8)
    for i, name in enumerate(STORED):
        y, x = divmod(i, 2)
        picture[y * 32 : y * 32 + 32, x * 48 : x * 48 + 48] = COLOURS[name]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=4)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        for _ in range(12):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def set_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Overwrite the display matrix of every track of an mp4 or mov file."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    assert at > 0
    while at > 0:
        assert data[at + 4] == 0, "version 0 of the box"
        values = (round(v * UNIT) for v in (a, b, 0, c, d, 0, 0, 0))
        struct.pack_into(">9i", data, at + 44, *values, 1 << 30)
        at = data.find(b"tkhd", at + 4)
    path.write_bytes(data)
    return path


def corners(image: np.ndarray) -> tuple[str, ...]:
    """Name the colours of the middles of the four quadrants."""
    height, width = image.shape[:2]
    names = []
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            pixel = image[y, x].astype(int)
            names.append(min(COLOURS, key=lambda n: np.abs(pixel - COLOURS[n]).sum()))
    return tuple(names)


def read(path: Path, config: VideoConfig = CONFIG):
    """Return (shot frames, sampled frames, sampled times, summary)."""
    with decode(path, config) as decoding:
        chunks = list(decoding)
    shots = np.concatenate([c.shot_frames for c in chunks])
    frames = np.concatenate([c.sampled_frames for c in chunks if len(c.sampled_frames)])
    times = np.concatenate([c.times_s[c.sampled_index] for c in chunks])
    return shots, frames, times, decoding.summary


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("name", SHOWN)
def test_every_display_matrix_is_shown_as_a_player_shows_it(tmp_path: Path, name, suffix):
    matrix, expected = SHOWN[name]
    path = set_matrix(write_quadrants(tmp_path / f"clip.{suffix}"), *matrix)
    shots, frames, times, summary = read(path)
    assert [corners(f) for f in frames] == [expected] * 3
    assert [corners(s) for s in shots] == [expected] * 12
    turned = matrix[0] == 0
    assert frames.shape[1:3] == ((96, 64) if turned else (64, 96))
    assert (summary.info.width, summary.info.height) == ((64, 96) if turned else (96, 64))
    for frame, again in zip(frames, read_frames(path, times.tolist(), CONFIG), strict=True):
        np.testing.assert_array_equal(frame, again)


@pytest.mark.parametrize("name", SHOWN)
def test_decord_gives_turned_and_mirrored_pictures_to_pyav(tmp_path: Path, name):
    matrix, expected = SHOWN[name]
    path = set_matrix(write_quadrants(tmp_path / "clip.mp4"), *matrix)
    refusal = admit_decord(path, probe(path, CONFIG))
    assert (refusal is None) == (name == "as stored")
    _, frames, _, summary = read(path, VideoConfig(backend="decord"))
    assert {corners(f) for f in frames} == {expected}
    assert summary.backend == ("decord" if name == "as stored" else "pyav")


@pytest.mark.parametrize(
    ("matrix", "quarters", "mirrored"),
    [
        ((10, 2, -2, 10), 0, False),  # 11 degrees: the nearest quarter is none
        ((1, 8, -8, 1), 1, False),
        ((-5, 0, 0, 9), 0, True),  # unequal scales
        ((0, 0, 0, 0), 0, False),
        ((3, 3, 3, 3), 0, False),  # singular: damage
        ((-(2**31), 0, 0, -(2**31)), 2, False),
    ],
)
def test_any_matrix_becomes_quarter_turns(matrix, quarters, mirrored):
    found = orientation(*matrix)
    assert (found.quarters, found.mirrored) == (quarters, mirrored)


def test_a_matrix_that_says_nothing_is_upright(tmp_path: Path):
    path = set_matrix(write_quadrants(tmp_path / "clip.mp4"), 0, 0, 0, 0)
    assert {corners(f) for f in read(path)[1]} == {STORED}
    assert orientation(1, 0, 0, 1) == UPRIGHT


@pytest.mark.parametrize(
    ("shape", "size"),
    [(Fraction(2), (96, 32)), (Fraction(1, 2), (48, 64)), (Fraction(4, 3), (96, 48)),
     (Fraction(1), (96, 64)), (Fraction(9), (96, 64))],
)  # fmt: skip
def test_pixels_are_shown_square(tmp_path: Path, shape, size):
    path = write_quadrants(tmp_path / "clip.mkv", shape=shape)
    _, frames, _, _ = read(path)
    assert frames.shape[1:3] == size[::-1]
    assert {corners(f) for f in frames} == {STORED}


@pytest.mark.parametrize("name", SHOWN)
def test_the_pixel_shape_turns_with_the_picture(tmp_path: Path, name):
    matrix, expected = SHOWN[name]
    path = set_matrix(write_quadrants(tmp_path / "clip.mp4", shape=Fraction(2)), *matrix)
    _, frames, _, _ = read(path)
    assert frames.shape[1:3] == ((96, 32) if matrix[0] == 0 else (32, 96))
    assert {corners(f) for f in frames} == {expected}


def test_a_matrix_that_stretches_gives_the_pixel_shape(tmp_path: Path):
    path = set_matrix(write_quadrants(tmp_path / "clip.mp4"), 2, 0, 0, 1)
    assert read(path)[1].shape[1:3] == (32, 96)
