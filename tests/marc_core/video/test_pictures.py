"""One picture for each stretch: a keyframe where there is one, else the exact frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.odd_media import write_numbers
from marc_core.config import VideoConfig
from marc_core.errors import UnreadableVideoError
from marc_core.video import IsolatedDecoder, read_frames
from marc_core.video.pictures import Stretch, find_pictures

CONFIG = VideoConfig()
X264 = {"g": "10", "bf": "2", "sc_threshold": "0"}
STRETCHES = [Stretch(2.5 * i, 2.5 * (i + 1), 2.5 * i + 1.3) for i in range(4)]


def check(path: Path, found: list, stretches: list[Stretch]) -> list[float]:
    """Check that each stretch has one picture, its own and the file's frame of that time."""
    found = sorted(found, key=lambda f: f[0])
    assert [number for number, _, _ in found] == list(range(len(stretches)))
    for (_, time_s, picture), stretch in zip(found, stretches, strict=True):
        assert stretch.start_s <= time_s < stretch.end_s
        (frame,) = read_frames(path, [time_s], CONFIG)
        np.testing.assert_array_equal(picture, frame)
    return [time_s for _, time_s, _ in found]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mp4", {"codec_options": X264}),
        ("open.mkv", {"codec_options": {**X264, "x264-params": "open-gop=1:no-scenecut=1"}}),
        ("mpeg4.mp4", {"codec": "mpeg4", "codec_options": {"g": "10", "bf": "2"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "codec_options": {"g": "10"}}),
    ],
)
def test_a_keyframe_inside_costs_one_packet(tmp_path: Path, name, options):
    path = write_numbers(tmp_path / name, count=100, **options)
    ticks: list[None] = []
    found = find_pictures(
        path, STRETCHES, CONFIG, repaired=False, on_frame=partial(ticks.append, None)
    )
    times_s = check(path, list(found), STRETCHES)
    assert len(ticks) == len(STRETCHES)
    centres = np.array([s.time_s for s in STRETCHES])
    assert (np.abs(np.array(times_s) - centres) <= 1.0).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("long.mp4", {"codec_options": {"g": "250", "sc_threshold": "0"}}),
        ("refresh.mkv", {"codec_options": {"x264-params": "intra-refresh=1:keyint=10"}}),
        ("sequential.ts", {"codec_options": X264}),
    ],
)
def test_without_one_the_exact_frame_is_read(tmp_path: Path, name, options):
    path = write_numbers(tmp_path / name, count=100, **options)
    found = list(find_pictures(path, STRETCHES[1:], CONFIG, repaired=False))
    assert check(path, found, STRETCHES[1:]) == [s.time_s for s in STRETCHES[1:]]


def test_times_that_a_clock_repaired_are_no_keyframes(tmp_path: Path):
    path = write_numbers(tmp_path / "clip.mp4", count=100, codec_options=X264)
    found = list(find_pictures(path, STRETCHES, CONFIG, repaired=True))
    assert check(path, found, STRETCHES) == [s.time_s for s in STRETCHES]


def test_the_child_gives_the_same_at_a_size_of_its_own(tmp_path: Path):
    path = write_numbers(tmp_path / "clip.mp4", count=100, codec_options=X264, size=(640, 360))
    large = VideoConfig(frame_max_pixels=640 * 360)
    with IsolatedDecoder(large) as decoder:
        found = list(decoder.pictures(path, STRETCHES, repaired=False))
        pid = decoder.child_pid
        here = list(find_pictures(path, STRETCHES, large, repaired=False))
        for (*numbers, picture), (*known, frame) in zip(found, here, strict=True):
            assert numbers == known
            assert picture.shape == (360, 640, 3)
            np.testing.assert_array_equal(picture, frame)
        left_early = decoder.pictures(path, STRETCHES, repaired=False)
        next(left_early)
        left_early.close()
        assert len(list(decoder.pictures(path, STRETCHES[:1]))) == 1
        assert decoder.child_pid != pid
        with pytest.raises(UnreadableVideoError):
            list(decoder.pictures(tmp_path / "none.mp4", STRETCHES))
