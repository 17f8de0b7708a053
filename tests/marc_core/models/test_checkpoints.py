"""From a name to a model's directory, and digests of its weights; nothing is downloaded here."""

from __future__ import annotations

import pytest

from marc_core.errors import ModelLoadError
from marc_core.models import checkpoints
from marc_core.models.checkpoints import local_directory, weights_digests

PARTS = ("encoder", "student")


@pytest.mark.parametrize("part", PARTS)
def test_presets_and_folders_are_found(part, tmp_path):
    assert (local_directory(part, "preset:tiny", None) / "config.json").is_file()
    assert local_directory(part, str(tmp_path), None) == tmp_path


def test_a_preset_s_folders_can_be_named():
    want = local_directory("encoder", "preset:tiny", None)
    assert local_directory("student", "preset:tiny/encoder", None) == want


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "name", ["preset:nothing", "preset:tiny/nothing", "/no/such/folder", "a/b/c", "./none", "word"]
)
def test_names_that_lead_nowhere_name_the_remedy(part, name):
    with pytest.raises(ModelLoadError, match=rf"{part}\.model must be .*preset.*Got '{name}'"):
        local_directory(part, name, None)


@pytest.mark.parametrize("part", PARTS)
def test_a_hub_id_offline_names_the_remedy(part, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelLoadError, match=rf"set {part}\.model to its path"):
        local_directory(part, "nobody/no-such-model", None)


def test_large_files_are_sampled_and_still_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_WHOLE_FILE_BYTES", 1000)
    file = tmp_path / "w.safetensors"
    file.write_bytes((8).to_bytes(8, "little") + b"x" * 100_000)
    first = weights_digests(tmp_path)
    file.write_bytes((8).to_bytes(8, "little") + b"y" * 100_000)
    assert weights_digests(tmp_path) != first


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="safetensors"):
        weights_digests(tmp_path)
