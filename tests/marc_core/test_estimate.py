"""An estimate before a job: a sample's own seconds and rows, in proportion."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.clips import render_clip
from benchmarks.sound_media import beeps, beeps_heard, write_sounded
from marc_core.config import IndexConfig, load_config
from marc_core.errors import MarcError, VideoError
from marc_core.estimate import Estimate, estimate
from marc_core.estimate.cpu_time import children_cpu_s
from marc_core.estimate.sample import Stretch, archive_s, copy_stretch, length_s, spread
from marc_core.estimate.stages import TextStages
from marc_core.indexing import IndexedVideo
from marc_core.text import stages
from marc_core.text.stage import StageResult
from marc_core.types import SYNTHETIC_COMMENT, VideoSource
from marc_core.video.audio import sound_blocks
from marc_core.video.source import local_source
from tests.marc_core.memory import fakes
from tests.pipelines import fake_texts


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
        with av.open(stretch.path) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert 75 <= frames <= 125
        assert stretch == Stretch(str(tmp_path / "stretch.mkv"))

    def test_has_the_sound_of_its_pictures(self, tmp_path):
        path = write_sounded(tmp_path / "said.mp4", beeps([3.0, 10.25, 11.5, 17.0], 20.0))
        stretch = copy_stretch(str(path), tmp_path / "stretch.mkv", 4.0)
        heard_s = beeps_heard(list(sound_blocks(stretch.path)))
        assert np.diff(heard_s) == pytest.approx([1.25], abs=0.05)

    def test_of_a_short_video_is_the_video(self, archive, tmp_path):
        path = archive[0].uri
        assert copy_stretch(path, tmp_path / "stretch.mkv", 4.0) == Stretch(path)

    def test_tells_what_the_video_says_of_itself(self, tmp_path):
        with av.open(str(tmp_path / "world.mp4"), "w") as out:
            out.metadata["comment"] = SYNTHETIC_COMMENT
            pictures = out.add_stream("libx264", rate=5)
            pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
            out.mux(pictures.encode(av.VideoFrame(32, 32, "yuv420p")))
            out.mux(pictures.encode(None))
        assert copy_stretch(str(tmp_path / "world.mp4"), tmp_path / "s.mkv", 4.0).synthetic


class TestTexts:
    """What text stages cost, by a stage whose file says what it finds."""

    @pytest.fixture(autouse=True)
    def fake_speech(self, monkeypatch):
        speech, writing = (
            stages.StageKind(setting=name, module=module, extra="text", seconds_an_hour=1.0)
            for name, module in (("speech", fake_texts.__name__), ("writing", "not_installed"))
        )
        monkeypatch.setattr(stages, "STAGES", {"speech": speech, "writing": writing})
        fake_texts.LOOKED.clear()

    @pytest.fixture
    def stretch(self, tmp_path) -> Stretch:
        path = tmp_path / "said.mp4"
        path.write_text(json.dumps([[0.0, 1.0, "hello"]]))
        return Stretch(str(path))

    @staticmethod
    def rows(**told) -> IndexedVideo:
        videos, events, texts, *_ = fakes.tables_of("v", "/v.mp4", 3, text="shown")
        changed = videos.to_pylist()[0] | told
        videos = videos.from_pylist([changed], schema=videos.schema)
        return IndexedVideo(videos=videos, events=events, texts=texts, features=None)

    def test_a_stage_loads_its_model_before_it_is_timed(self, stretch):
        texts = TextStages(IndexConfig())
        texts.read(stretch, self.rows())
        assert len(fake_texts.LOOKED) == 2
        texts.read(stretch, self.rows())
        assert len(fake_texts.LOOKED) == 3
        assert list(texts.seconds) == ["speech"]
        assert texts.row_bytes > len("hello") * 2
        texts.close()

    def test_starting_a_child_does_not_count_where_nothing_is_found_either(
        self, stretch, monkeypatch
    ):
        def texts(*_, **__):
            fake_texts.LOOKED.append("silent.mp4")
            until_s = time.process_time() + 0.3 * (len(fake_texts.LOOKED) == 1)
            while time.process_time() < until_s:
                pass
            return StageResult(lines=(), seconds=0.0)

        monkeypatch.setattr(fake_texts.FakeStage, "texts", texts)
        silent = TextStages(IndexConfig())
        silent.read(stretch, self.rows())
        assert len(fake_texts.LOOKED) == 2
        assert silent.seconds["speech"] < 0.15

    def test_what_cannot_run_is_said_once(self, stretch):
        texts = TextStages(IndexConfig())
        for _ in range(2):
            texts.read(stretch, self.rows())
        (line,) = texts.left_out
        assert "pip install 'marc-video[text]'" in line

    def test_synthetic_videos_are_looked_at_only_when_asked_for(self, stretch):
        TextStages(IndexConfig()).read(stretch, self.rows(synthetic=True))
        assert fake_texts.LOOKED == []
        overrides = ["text.speech=on", "text.writing=off"]
        on = TextStages(load_config(IndexConfig, preset="tiny", overrides=overrides))
        on.read(stretch, self.rows(synthetic=True))
        assert len(fake_texts.LOOKED) == 2

    def test_a_file_that_cannot_be_read_is_an_error(self, stretch):
        Path(stretch.path).write_text(json.dumps({"raise": "unreadable"}))
        with pytest.raises(VideoError):
            TextStages(IndexConfig()).read(stretch, self.rows())


def test_children_count_while_they_run_and_after():
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    before_s = children_cpu_s()
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running_s = children_cpu_s() - before_s
        child.communicate(b"\n")
    assert running_s >= 0.15
    assert children_cpu_s() - before_s >= running_s - 0.02


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
        videos=9, pieces=9, unreadable=0, opened=9, timed=3, video_s=3600, decode_s=100, shots_s=60,
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

    @pytest.mark.parametrize(("cpus", "at_once"), [(1, 1), (4, 4), (64, 9)])
    def test_texts_come_after_events_one_video_a_worker(self, cpus, at_once):
        known = replace(self.KNOWN, pieces=50, texts_s={"speech": 60.0, "writing": 12.0})
        pools = {"cpus": cpus, "decoders": cpus, "encoders": 1, "start_s": 7}
        more_s = known.wall_s(**pools) - replace(known, texts_s={}).wall_s(**pools)
        assert more_s == pytest.approx(7 + 1.5 * 72 / at_once)

    def test_a_gpu_takes_its_seconds_from_the_cores(self):
        known = replace(self.KNOWN, gpu_s=10.0)
        assert known.cpu_s == 160
        assert known.wall_s(cpus=2, decoders=2, encoders=1, start_s=0) == pytest.approx(120)
