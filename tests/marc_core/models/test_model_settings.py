"""What a checkpoint says of its own use follows its directory, not its name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from marc_core.config import PRESETS_DIR
from marc_core.errors import ModelLoadError
from marc_core.models.model_settings import ModelSettings, model_settings, write_model_settings


def test_the_shipped_student_keeps_its_settings_when_copied(tmp_path):
    shutil.copytree(PRESETS_DIR / "tiny" / "student", tmp_path / "again")
    settings = model_settings(tmp_path / "again")
    assert settings.options_prompt == "choice"
    assert settings.evaluation_prompt == "direct"
    assert settings.is_small
    assert settings.max_seconds is not None
    assert not settings.footage


def test_a_checkpoint_without_the_file_is_a_general_one(tmp_path):
    assert model_settings(tmp_path) == ModelSettings()
    assert not ModelSettings().is_small


def test_settings_are_written_and_read(tmp_path):
    settings = ModelSettings(options_prompt="choice", threads=2, max_seconds=30.0)
    write_model_settings(settings, tmp_path)
    assert model_settings(tmp_path) == settings


@pytest.mark.parametrize(
    "stored",
    [{"options_prompt": "words"}, {"threads": -1}, {"threads": 1.5}, {"max_seconds": 0},
     {"max_seconds": "long"}, {"unknown": 1}, ["threads"], {"evaluation_prompt": "auto"},
     {"footage": "no"}],
)  # fmt: skip
def test_wrong_settings_are_refused(tmp_path, stored):
    (tmp_path / "marc.json").write_text(json.dumps(stored))
    with pytest.raises(ModelLoadError, match=r"marc\.json"):
        model_settings(tmp_path)


def test_the_docs_name_every_setting():
    docs = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text()
    for field in dataclasses.fields(ModelSettings):
        assert f"| `{field.name}` |" in docs
