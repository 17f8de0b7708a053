"""What models need is read from headers, and is what they then take."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from marc_core.config import EncoderConfig, MethodConfig, StudentConfig
from marc_core.models import weights
from marc_core.models.needs import model_needs
from marc_core.models.vision_tower import VisionTower, dtype_of

ROOT = Path(__file__).resolve().parents[3]


def test_needs_equal_the_loaded_parameters(student_config):
    config = dataclasses.replace(MethodConfig(), student=student_config(dtype="bfloat16"))
    tower, student, encoder = model_needs(config)
    loaded = VisionTower(config.student)
    assert tower.num_parameters == sum(p.numel() for p in loaded.visual.parameters())
    assert tower.weights_bytes == 2 * tower.num_parameters
    assert student.num_parameters > tower.num_parameters
    assert (encoder.part, encoder.precision) == ("encoder", "float32")
    assert "MB in bfloat16" in str(tower)


def test_a_model_that_is_not_here_has_no_figure(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    config = MethodConfig(
        student=StudentConfig(model="owner/student"), encoder=EncoderConfig(model="owner/encoder")
    )
    needs = model_needs(config)
    assert [n.weights_bytes for n in needs] == [None] * 3
    assert all("not on this machine" in str(n) for n in needs)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
def test_large_checkpoints_are_bfloat16_on_a_cpu(student_config, monkeypatch, checkpoint, stored):
    """Also one that a training has stored in float32: it would take twice the memory."""
    directory = checkpoint("qwen2_5_vl", copy=True)
    (file,) = directory.glob("*.safetensors")
    from safetensors.torch import load_file

    save_file({n: t.to(stored) for n, t in load_file(file).items()}, file)
    config = dataclasses.replace(student_config(), model=str(directory))
    assert dtype_of(config, directory) == torch.float32
    monkeypatch.setattr(weights, "LARGE_PARAMETERS", 1000)
    assert dtype_of(config, directory) == torch.bfloat16
    tower, student, _ = model_needs(MethodConfig(student=config))
    assert (tower.precision, student.precision) == ("bfloat16", "bfloat16")
    assert dtype_of(dataclasses.replace(config, dtype="float32"), directory) == torch.float32


MEASURE = """
import re, sys
from marc_core.config import StudentConfig
from marc_core.models.vision_tower import VisionTower
from marc_core.models.loading import load_model
from transformers import AutoModelForImageTextToText
config = StudentConfig(model=sys.argv[2], dtype="bfloat16", device="cpu")
tiny = StudentConfig(model=sys.argv[3], dtype="bfloat16", device="cpu")
load = {"tower": VisionTower, "model": load_model}[sys.argv[1]]
load(tiny)  # imports and the allocator's first steps do not count
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak_kib()
loaded = load(config)
model = loaded.visual if sys.argv[1] == "tower" else loaded[0]
touched = sum(float(p.sum()) for p in model.parameters())
print(peak_kib() - before)
"""


@pytest.fixture(scope="module")
def medium(tmp_path_factory, checkpoint) -> Path:
    """64 million parameters in bfloat16, a quarter of them the tower's."""
    import shutil

    from transformers import AutoConfig, AutoModelForImageTextToText

    directory = tmp_path_factory.mktemp("medium") / "student"
    shutil.copytree(checkpoint("qwen2_5_vl"), directory)
    config = AutoConfig.from_pretrained(directory)
    text, vision = config.text_config, config.vision_config
    text.hidden_size = vision.out_hidden_size = 1024
    text.intermediate_size, text.num_hidden_layers, text.num_attention_heads = 3584, 3, 32
    vision.hidden_size, vision.intermediate_size, vision.depth = 512, 1408, 4
    vision.num_heads = 8
    config.dtype = "bfloat16"
    config.save_pretrained(directory)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    tensors = {n: torch.zeros(p.shape, dtype=torch.bfloat16) for n, p in model.named_parameters()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("what", ["tower", "model"])
def test_loading_never_holds_a_second_copy(what, medium, checkpoint):
    tower, student, _ = model_needs(
        MethodConfig(student=StudentConfig(model=str(medium), dtype="bfloat16"))
    )
    need = {"tower": tower, "model": student}[what].weights_bytes
    assert need > 20e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, what, str(medium), str(checkpoint("qwen2_5_vl"))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout.split()[-1]) * 1024
    assert need * 0.9 < grown < need * 1.35 + 10e6, json.dumps({"need": need, "grown": grown})
