"""Frames that are drawn between two that were scaled: only where the picture stands still."""

import av
import numpy as np
import pytest

from marc_core.config import VideoConfig
from marc_core.video import decode
from marc_core.video.parts import parts_of
from marc_core.video.still import EVERY, MOST_GREY, SPAN_S, with_small

RNG = np.random.default_rng(0)
ROOM = RNG.integers(60, 180, (27, 48, 3), np.uint8)
OTHER = RNG.integers(60, 180, (27, 48, 3), np.uint8)


class Frame:
    """A frame that says whether it was scaled."""

    def __init__(self, picture):
        self.picture, self.scaled = picture, False

    def small(self):
        self.scaled = True
        return self.picture


def noisy(pictures):
    return [np.clip(p + RNG.integers(-1, 2, p.shape), 0, 255).astype(np.uint8) for p in pictures]


def given(pictures, fps=25.0):
    """Return what comes of the pictures, and which of them were scaled."""
    frames = [Frame(picture) for picture in pictures]
    timed = [(i / fps, frame) for i, frame in enumerate(frames)]
    found = list(with_small(timed))
    assert [(time_s, frame) for time_s, frame, _ in found] == timed
    return np.array([small for *_, small in found]), np.array([f.scaled for f in frames])


def test_of_a_picture_that_stands_still_every_fourth_frame_is_scaled():
    pictures = noisy([ROOM] * 102)
    small, scaled = given(pictures)
    assert np.flatnonzero(scaled).tolist() == [*range(0, 101, EVERY), 101]
    np.testing.assert_array_equal(small[scaled], np.array(pictures)[scaled])
    assert np.abs(small.astype(int) - np.array(pictures)).max() <= 2


def test_drawn_frames_go_evenly_from_one_picture_to_the_other():
    small, scaled = given([np.full((27, 48, 3), grey, np.uint8) for grey in (100, 0, 0, 0, 101)])
    assert scaled.tolist() == [True, False, False, False, True]
    assert small[:, 0, 0, 0].tolist() == [100, 100, 101, 101, 101]


@pytest.mark.parametrize("cut", range(20, 24))
def test_all_frames_around_a_cut_are_scaled(cut):
    pictures = noisy([ROOM] * cut + [OTHER] * (48 - cut))
    small, scaled = given(pictures)
    assert scaled[cut - 1 : cut + 1].all()
    np.testing.assert_array_equal(small[cut - 1 : cut + 1], pictures[cut - 1 : cut + 1])


@pytest.mark.parametrize("length", [5, 25])
def test_a_dissolve_is_what_it_is(length):
    shares = np.clip((np.arange(48) - 10) / length, 0, 1)[:, None, None, None]
    pictures = ((1 - shares) * ROOM + shares * OTHER).round().astype(np.uint8)
    small, scaled = given(list(pictures))
    assert np.abs(small.astype(int) - pictures).max() <= 1 + MOST_GREY // 2
    assert scaled[12 : 10 + length].all()


def test_somebody_who_walks_by_is_drawn_and_a_thing_that_leaps_is_not():
    def scene(left, grey):
        picture = ROOM.copy()
        picture[12:16, left : left + 2] = grey
        return picture

    _, walking = given([scene(4 + i // 8, 110) for i in range(41)])
    assert walking.mean() < 0.5
    _, leaping = given([scene(5 + 9 * (i // 4 % 2), 255) for i in range(41)])
    assert leaping.all()


def test_frames_far_apart_are_all_scaled():
    _, scaled = given(noisy([ROOM] * 41), fps=0.9 * EVERY / SPAN_S)
    assert scaled.all()


def _fixed_camera(path):
    """Write 24 s of a room with noise, and another room from 13.4 s on."""
    rooms = [RNG.integers(60, 180, (9, 16, 3), np.uint8).repeat(10, 0).repeat(10, 1) for _ in "ab"]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for i in range(600):
            seen = np.clip(rooms[i >= 335] + RNG.normal(0, 1, (90, 160, 1)), 0, 255)
            frame = av.VideoFrame.from_ndarray(seen.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _read(path, part=None):
    with decode(path, VideoConfig(), part=part) as decoding:
        chunks = list(decoding)
    return (
        np.concatenate([chunk.times_s for chunk in chunks]),
        np.concatenate([chunk.shot_frames for chunk in chunks]),
    )


def test_parts_have_the_drawn_frames_of_one_pass(tmp_path):
    path = _fixed_camera(tmp_path / "a.mp4")
    times_s, frames = _read(path)
    drawn = frames[2::4][: len(frames[4::4])] == (frames[:-4:4].astype(int) + frames[4::4] + 1) // 2
    assert drawn.all((1, 2, 3)).mean() > 0.8
    for part in parts_of(times_s, np.array([8.2, 15.0])):
        own_s, own = _read(path, part)
        begin = np.searchsorted(times_s, own_s[0])
        np.testing.assert_array_equal(own_s, times_s[begin : begin + len(own)])
        np.testing.assert_array_equal(own, frames[begin : begin + len(own)])
