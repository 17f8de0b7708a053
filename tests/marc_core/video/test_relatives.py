"""Files with two oddities at once."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.odd_media import read_number, shift_copy, write_numbers
from marc_core.config import VideoConfig
from marc_core.video import IsolatedDecoder, decode, read_frames
from tests.marc_core.video.test_display import (
    COLOURS,
    SHOWN,
    STORED,
    corners,
    read,
    set_matrix,
)

CONFIG = VideoConfig()


@pytest.mark.parametrize("name", SHOWN)
def test_an_edit_list_and_a_display_matrix(tmp_path: Path, name):
    matrix, _ = SHOWN[name]
    plain = write_numbers(tmp_path / "plain.mp4", codec_options={"g": "10", "bf": "2"})
    as_is = {"avoid_negative_ts": "disabled"}
    path = set_matrix(shift_copy(plain, tmp_path / "cut.mp4", -1.0, as_is), *matrix)
    upright = tmp_path / "upright.mp4"
    shift_copy(plain, upright, -1.0, as_is)
    shots, frames, times, _ = read(path)
    expected = [stored(frame, name) for frame in read(upright)[1]]
    assert len(shots) == 20
    np.testing.assert_allclose(times, [0.0, 1.0], atol=1e-6)
    for frame, other in zip(frames, expected, strict=True):
        assert frame.shape == other.shape
        np.testing.assert_allclose(frame.astype(int), other, atol=3)
    assert read_number(read(upright)[0][0]) == 10


def stored(frame: np.ndarray, name: str) -> np.ndarray:
    """Show a stored picture by plain numpy, written apart from the code under test."""
    return {
        "as stored": frame,
        "mirrored left to right": np.fliplr(frame),
        "mirrored top to bottom": np.flipud(frame),
        "half turn": np.rot90(frame, 2),
        "quarter clockwise": np.rot90(frame, -1),
        "quarter counter-clockwise": np.rot90(frame, 1),
        "transposed": frame.transpose(1, 0, 2),
        "transposed on the other diagonal": np.rot90(frame, 2).transpose(1, 0, 2),
    }[name]


@pytest.mark.parametrize("name", SHOWN)
def test_the_matrix_of_each_stream_is_its_own(tmp_path: Path, name):
    """Both tracks of a file are turned; the second one is shown right, too, through the child."""
    matrix, expected = SHOWN[name]
    picture = np.zeros((64, 96, 3), np.uint8)
    for i, colour in enumerate(STORED):
        y, x = divmod(i, 2)
        picture[y * 32 : y * 32 + 32, x * 48 : x * 48 + 48] = COLOURS[colour]
    path = tmp_path / "two.mov"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=rate) for rate in (4, 5)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for stream in streams:
            for _ in range(10):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())
    set_matrix(path, *matrix)
    with IsolatedDecoder(VideoConfig(streams="all")) as decoder:
        for number in range(2):
            with decoder.open(path, stream=number) as decoding:
                frames = [f for chunk in decoding for f in chunk.sampled_frames]
            assert {corners(f) for f in frames} == {expected}
            (again,) = decoder.read_frames(path, [0.0], stream=number)
            np.testing.assert_array_equal(again, frames[0])


def test_one_pixel_and_one_line(tmp_path: Path):
    for number, (width, height) in enumerate(
        [(2, 2), (2, 400), (400, 2), (1, 1), (1, 99), (99, 1)]
    ):
        path = tmp_path / f"{number}.mov"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("png", rate=5)
            stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
            for _ in range(5):
                red = np.full((height, width, 3), (220, 30, 30), np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
            out.mux(stream.encode())
        with decode(path, CONFIG) as decoding:
            chunks = list(decoding)
        (frame,) = [f for c in chunks for f in c.sampled_frames]
        assert frame.shape[0] >= 2
        assert frame.shape[1] >= 2
        np.testing.assert_allclose(frame.mean((0, 1)), (220, 30, 30), atol=6)
        np.testing.assert_array_equal(read_frames(path, [0.0], CONFIG), [frame])


def test_wide_pixels_turned_by_a_quarter_in_a_transport_stream_s_size(tmp_path: Path):
    """PAL 16:9: 720 x 576 stored, 1024 x 576 shown; made square by shrinking, never enlarged."""
    path = tmp_path / "pal.mpg"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8))))
        out.mux(stream.encode())
    with decode(path, VideoConfig(frame_max_pixels=10**6)) as decoding:
        (frame,) = [f for c in decoding for f in c.sampled_frames]
    assert frame.shape[1] / frame.shape[0] == pytest.approx(16 / 9, abs=0.02)
    assert frame.shape[1] == 720
