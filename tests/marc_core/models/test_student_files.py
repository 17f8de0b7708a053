"""Evidence from a checkpoint's small files: the prompt and positions that the model was given."""

from __future__ import annotations

import pytest
import torch

from marc_core.compress import compress_across, compress_event
from marc_core.config import CompressConfig, StudentConfig
from marc_core.evidence import Evidence
from marc_core.models.inputs import full_ids, full_positions
from marc_core.models.positions import position_ids
from marc_core.models.prompt import chat_text
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import VisionTower
from marc_core.question import Turn

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
PROMPT = "what is red ?"


def setup(directory, make_frames, groups):
    config = StudentConfig(model=str(directory), device="cpu", frame_max_pixels=32 * 32)
    tower = VisionTower(config)
    compress = CompressConfig(mode="plain", event_ratio=1.0)
    frames = [make_frames(8, seed=1, start_s=3.0), make_frames(6, seed=2, start_s=20.0)]
    events = [compress_event(e, compress) for e in tower.encode_events(frames)]
    budget_tokens = groups * events[0].groups_TPD.shape[1]
    return config, compress_across(events, compress, budget_tokens=budget_tokens)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("groups", [1, 3])
def test_evidence_spells_the_whole_prompt_and_its_positions(
    family, groups, checkpoint, make_frames
):
    directory = checkpoint(family)
    config, video = setup(directory, make_frames, groups)
    files = StudentFiles(config)
    evidence = files.evidence(PROMPT, video, choices=("red", "blue"))
    pad = files.model_config.video_token_id
    text = files.adapter.expand(chat_text(files.tokenizer, PROMPT, with_video=True), video)
    whole = files.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert full_ids(evidence, pad) == whole
    assert evidence.num_tokens == video.num_tokens == sum(r.num_tokens for r in evidence.runs)
    assert len(evidence.runs) == (groups if family == "qwen3_vl" else 1)
    assert torch.equal(evidence.tokens_ND, video.groups_KPD.flatten(0, 1))
    assert (evidence.deepstack_LND is not None) == (family == "qwen3_vl")
    assert evidence.choices == ("red", "blue")
    is_video, blocks = [i == pad for i in whole], files.adapter.blocks(video)
    for rule in ("max", "hf5"):
        expected = position_ids(is_video, blocks, rule=rule)
        assert torch.equal(full_positions(evidence, rule), expected)
    assert torch.equal(Evidence.from_bytes(evidence.to_bytes()).tokens_ND, evidence.tokens_ND)


def test_a_text_prompt_has_no_runs(checkpoint):
    files = StudentFiles(StudentConfig(model=str(checkpoint("qwen2_5_vl"))))
    evidence = files.evidence(PROMPT, None)
    assert (evidence.num_tokens, evidence.runs, evidence.after_ids) == (0, (), ())
    assert evidence.positions_N3.shape == (0, 3)


def test_earlier_turns_stand_before_the_video(checkpoint, make_frames):
    config, video = setup(checkpoint("qwen2_5_vl"), make_frames, 1)
    files = StudentFiles(config)
    history = (Turn(role="user", text="is the A red ?"), Turn(role="assistant", text="blue"))
    evidence = files.evidence(PROMPT, video, history=history)
    plain = files.evidence(PROMPT, video)
    assert evidence.after_ids == plain.after_ids
    said = files.tokenizer.decode(evidence.before_ids)
    assert said.index("is the A red") < said.index("assistant") < said.index("blue")
    assert said.count("<|im_start|>") == 3


def test_the_language_model_is_not_needed(checkpoint, make_frames):
    directory = checkpoint("qwen2_5_vl", copy=True)
    config, video = setup(directory, make_frames, 1)
    files = StudentFiles(config)
    files.vision_fingerprint  # noqa: B018 - read before the weights go
    for file in directory.glob("*.safetensors"):
        file.unlink()
    assert files.evidence(PROMPT, video).key == files.evidence(PROMPT, video).key
