"""The chain that writes training sets: shards are kept, bad files are recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marc_core.config import load_config
from marc_core.errors import TrainingError
from marc_core.train_set.config import TrainSetConfig
from marc_core.train_set.shards import SetShards, VideoRows, read_samples
from marc_core.train_set.sources import FileSource, located
from pipelines.train_set import missing, plan_shards, set_shards, write_train_set


def configure(output: Path, *overrides: str) -> TrainSetConfig:
    return load_config(TrainSetConfig, preset="tiny", overrides=[f"output='{output}'", *overrides])


def question(index: int, path: str, kind: str = "video") -> dict[str, object]:
    return {
        "problem_id": index,
        "problem": "What colour is the circle?",
        "data_type": kind,
        "problem_type": "multiple choice",
        "options": ["A. red", "B. blue"],
        "solution": "<answer>B</answer>",
        "path": path,
        "data_source": "test",
    }


def test_shards_are_missing_until_their_videos_are_written(tmp_path):
    work = plan_shards([f"v{i}" for i in range(5)], 2)
    assert [row["paths"] for row in work] == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    shards = SetShards(str(tmp_path), "set")
    assert missing(work, shards) == work
    shards.write("00001", [VideoRows("v2", ()), VideoRows("v3", (), "broken: no frames")])
    assert missing(work, shards) == [work[0], work[2]]
    assert [end["error"] for end in shards.ends()] == ["", "broken: no frames"]


def test_a_folder_without_rows_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="marc train-set"):
        list(read_samples(str(tmp_path)))


def test_a_set_is_named_by_what_its_rows_depend_on(tmp_path):
    name = set_shards(configure(tmp_path)).address
    assert set_shards(configure(tmp_path, "max_failed_fraction=0.1")).address == name
    assert set_shards(configure(tmp_path, "budgets=[9]")).address != name
    assert set_shards(configure(tmp_path, "seed=1")).address != name


def test_files_in_buckets_keep_their_place_below_the_prefix():
    assert located("./CLEVRER/a.mp4", "s3://bucket/data/") == "s3://bucket/data/CLEVRER/a.mp4"


def test_questions_about_one_file_stand_together(tmp_path):
    data = tmp_path / "train.json"
    rows = [question(0, "./a.png", "image"), question(1, "./b.mp4"), question(2, "./a.png")]
    data.write_text(json.dumps(rows))
    source = FileSource(configure(tmp_path, "source=video-r1", f"data='{data}'", "videos=none"))
    assert [Path(p).name for p in source.paths()] == ["a.png", "b.mp4"]
    first = source.asked(source.paths()[0])
    assert [a.sample.problem_id for a in first] == ["0", "2"]
    assert first[0].answers == ("B",)


@pytest.mark.usefixtures("chains")
def test_a_world_s_set_is_written_once(tmp_path):
    config = configure(
        tmp_path, "num_videos=3", "first_seed=1", "videos_per_shard=2", "questions_per_type=1"
    )
    report = write_train_set(config)
    assert (report.videos, report.failed) == (3, {})
    samples = list(read_samples(report.address))
    assert len(samples) == report.questions > 20
    assert len({sample.id for sample in samples}) == len(samples)
    files = {p: p.stat().st_mtime_ns for p in Path(report.address).rglob("*.parquet")}
    assert len(files) == 4
    again = write_train_set(config)
    assert again.questions == report.questions
    assert {p: p.stat().st_mtime_ns for p in Path(report.address).rglob("*.parquet")} == files


@pytest.mark.usefixtures("chains")
def test_pictures_are_taken_and_bad_files_are_recorded(tmp_path):
    picture = np.zeros((84, 84, 3), dtype=np.uint8)
    picture[20:50, 20:50] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows = [question(0, "a.png", "image"), question(1, "bad.png", "image"), question(2, "gone.mp4")]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    config = configure(
        tmp_path / "set", "source=video-r1", f"data='{tmp_path}/train.json'", f"videos='{tmp_path}'"
    )
    report = write_train_set(config)
    (sample,) = read_samples(report.address)
    assert sample.is_image
    assert sample.answers == ("B",)
    assert sorted(Path(path).name for path in report.failed) == ["bad.png", "gone.mp4"]
    assert all("source" in reason for reason in report.failed.values())
