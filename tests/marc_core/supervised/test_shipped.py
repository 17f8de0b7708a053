"""The shipped student: one tower with its teacher, and better than it on few tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from marc_core.config import PRESETS_DIR, load_config
from marc_core.embed import load_encoder
from marc_core.models.loading import load_model
from marc_core.models.sampling import suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.rl.samples import TrainSample
from marc_core.supervised.packed_set import pack_set
from marc_core.supervised.run import accuracy
from marc_core.supervised.task import SupervisedTask
from marc_core.train_set.config import TrainSetConfig
from marc_core.train_set.rows import RowMaker
from marc_core.train_set.sources import WorldOpener, WorldSource

CONFIG = load_config(
    TrainSetConfig,
    preset="tiny",
    overrides=["budgets=[9]", "questions_per_type=1", "long_every=0", "world.salt=4000"],
)
VIDEOS = 16


def test_student_and_teacher_share_their_tower_and_little_space():
    student, teacher = StudentFiles(CONFIG.student), StudentFiles(CONFIG.teacher_model())
    assert student.vision_fingerprint == teacher.vision_fingerprint
    assert student.directory != teacher.directory
    assert student.settings.event_facts
    assert not teacher.settings.event_facts
    models = [d for d in (PRESETS_DIR / "tiny").iterdir() if d.name in ("student", "teacher")]
    size = sum(f.stat().st_size for d in models for f in d.iterdir())
    assert size <= 32e6


@pytest.fixture(scope="module")
def samples() -> list[TrainSample]:
    """Questions about held-out videos, at 9 tokens."""
    source, opener = WorldSource(CONFIG), WorldOpener(CONFIG)
    maker = RowMaker(CONFIG, load_encoder(CONFIG.encoder))
    return [
        TrainSample.from_row(row)
        for path in source.paths()[:VIDEOS]
        for row in maker.rows(opener.load(path), source.asked(path))
    ]


def test_the_student_answers_from_one_frame_s_tokens(samples: list[TrainSample], tmp_path: Path):
    found = {}
    for name, section in (("student", CONFIG.student), ("teacher", CONFIG.teacher_model())):
        data = pack_set(samples, StudentFiles(section), tmp_path / name, name=name)
        model, _, _ = load_model(section)
        task = SupervisedTask(
            model, data, suppressed_ids=suppressed_ids(model.config), questions_per_step=1
        )
        found[name] = accuracy(task, data)["overall"]
    assert found["student"] > 0.8
    assert found["student"] > found["teacher"] + 0.05
