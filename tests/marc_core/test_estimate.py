"""An estimate before a job: a sample's own seconds and rows, in proportion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.clips import render_clip
from marc_core.config import IndexConfig, load_config
from marc_core.errors import MarcError
from marc_core.estimate import (
    Estimate,
    archive_s,
    copy_stretch,
    estimate,
    length_s,
    spread,
)
from marc_core.types import VideoSource
from marc_core.video.source import local_source


def _source(name: str, size_bytes: int) -> VideoSource:
    return VideoSource(video_id=name, uri=f"/{name}.mp4", size_bytes=size_bytes, version="1")


def _clip(path: Path, seconds: float, **settings) -> Path:
    return render_clip(path, seconds=seconds, size=(160, 90), cut_every_s=100, **settings)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return sources: videos of 2 and 3 s, and one file that is none."""
    folder = tmp_path_factory.mktemp("estimate")
    paths = [_clip(folder / f"{n}.mp4", n, seed=n) for n in (2, 3)]
    (folder / "broken.mp4").write_bytes(b"nothing of a video" * 50)
    return [local_source(str(path)) for path in [*paths, folder / "broken.mp4"]]


class TestSample:
    def test_takes_all_of_a_few(self):
        assert spread([5, 1, 3], 3) == [0, 1, 2]
        assert spread([], 3) == []

    def test_takes_the_large_more_often_and_none_twice(self):
        weights = [1.0] * 900 + [100.0] * 100
        taken = spread(weights, 50)
        assert len(taken) == len(set(taken)) == 50
        assert 40 <= sum(i >= 900 for i in taken) <= 49

    def test_spreads_over_equal_ones_and_bears_empty_files(self):
        taken = spread([1.0] * 100, 4)
        assert np.diff(taken).tolist() == [25, 25, 25]
        assert len(spread([0.0] * 10, 3)) == 3

    def test_lengths_scale_with_the_bytes_that_were_not_opened(self):
        sources = [_source(str(i), 1000 * (i + 1)) for i in range(20)]
        opened = sources[::4]
        lengths = [s.size_bytes / 50 for s in opened]
        assert archive_s(sources, opened, lengths) == pytest.approx(210_000 / 50)

    def test_a_video_that_does_not_say_counts_by_its_bytes_a_broken_one_not_at_all(self):
        three = [_source(name, 1000) for name in "abc"]
        assert archive_s(three, three, [10.0, None, 10.0]) == pytest.approx(30.0)
        assert archive_s(three[:2], three[:2], [10.0, 0.0]) == pytest.approx(10.0)


class TestStretch:
    def test_of_a_long_video_is_cut_from_its_middle(self, tmp_path):
        path = _clip(tmp_path / "long.mp4", 24, options={"preset": "ultrafast", "g": "25"})
        stretch = copy_stretch(str(path), tmp_path / "stretch.mkv", 4.0)
        with av.open(stretch) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert 75 <= frames <= 125
        assert Path(stretch).name == "stretch.mkv"

    def test_of_a_short_video_is_the_video(self, archive, tmp_path):
        path = archive[0].uri
        assert copy_stretch(path, tmp_path / "stretch.mkv", 4.0) == path


def test_how_long_a_video_is_is_read_from_its_container(archive):
    assert [length_s(source, {}) for source in archive] == pytest.approx([2, 3, 0])


@pytest.mark.slow
def test_a_whole_small_archive_is_measured_as_it_is(archive):
    config = load_config(IndexConfig, preset="tiny", overrides=["events.shot_precision=auto"])
    known = estimate(archive, config)
    assert (known.videos, known.opened, known.timed, known.unreadable) == (3, 3, 2, 1 / 3)
    assert known.video_s == pytest.approx(5.0, abs=0.1)
    assert min(known.decode_s, known.shots_s, known.encode_s) > 0
    assert known.busy >= 1
    assert known.memory_bytes > 2 * 5_000  # a thumbnail, a vector and tokens of each video
    assert known.to_json()["cpu_s"] == known.cpu_s


def test_an_archive_of_which_nothing_can_be_opened_is_said(archive):
    with pytest.raises(MarcError, match="Got none among 1 of 1"):
        estimate(archive[2:], load_config(IndexConfig, preset="tiny", overrides=[]))


class TestWallClock:
    KNOWN = Estimate(
        videos=9, unreadable=0, opened=9, timed=3, video_s=3600, decode_s=100, shots_s=60,
        encode_s=40, gpu_s=None, busy=1.5, memory_bytes=1,
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("cpus", "decoders", "encoders", "expected_s"),
        [
            (1, 1, 1, 200),  # one core does it all
            (2, 2, 1, 100),
            (8, 2, 1, 80),  # decoders
            (64, 64, 1, 40),  # the encoder
        ],
    )
    def test_is_that_of_the_slowest_pool(self, cpus, decoders, encoders, expected_s):
        seconds = self.KNOWN.wall_s(cpus=cpus, decoders=decoders, encoders=encoders, start_s=7)
        assert seconds == pytest.approx(7 + 1.5 * expected_s)

    def test_a_gpu_takes_its_seconds_from_the_cores(self):
        known = replace(self.KNOWN, gpu_s=10.0)
        assert known.cpu_s == 160
        assert known.wall_s(cpus=2, decoders=2, encoders=1, start_s=0) == pytest.approx(120)
