"""Compressed video enters the stock models without changing them: proofs in float32.

Identity compression equals the plain model; events and groups do not know one another; gradients
go where they should. (Batches, sampling, log-probabilities: test_transformers_engine, test_policy.)
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from marc_core.compress import compress_across, compress_event
from marc_core.config import CompressConfig
from marc_core.models.engine import SamplingRecord
from marc_core.models.inputs import collate, full_ids
from marc_core.models.loading import load_model
from marc_core.models.policy import Drawn, Policy
from marc_core.models.preprocess import frames_to_patches
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import VisionTower, encode_events

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
NONE = CompressConfig(mode="none")
ONE = CompressConfig(mode="plain")
PROMPT = "what is red ?"

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def compressed(features, config):
    return compress_across([compress_event(f, config) for f in features], config)


def both_inputs(config, files, frames, times_s, video):
    """The inputs of the library's own path, and ours, for one prompt."""
    evidence = files.evidence(PROMPT, video)
    pixels, grid = frames_to_patches(frames, files.pixels, max_pixels=config.frame_max_pixels)
    ids = torch.tensor([full_ids(evidence, files.model_config.video_token_id)])
    plain = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": 2 * (ids == files.model_config.video_token_id).int(),
        "pixel_values_videos": pixels,
        "video_grid_thw": torch.tensor([grid]),
    }
    if files.model_config.model_type == "qwen2_5_vl":
        plain["second_per_grid_ts"] = torch.tensor([2.0])
    return plain, lambda: collate(
        [evidence],
        files.adapter,
        pad_id=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        rule="hf5",
    )


@pytest.mark.parametrize("num_frames", [2, 8])
def test_identity_compression_equals_the_plain_model(
    family, num_frames, student_config, make_frames
):
    """Forward pass and greedy generation, logit by logit, under the library's position rule."""
    config = student_config(family)
    files, (model, _, _) = StudentFiles(config), load_model(config)
    frames, times_s = make_frames(num_frames)
    video = compressed(VisionTower(config).encode_events([(frames, times_s)]), NONE)
    assert len(video.groups_KPD) == num_frames // 2
    plain, ours = both_inputs(config, files, frames, times_s, video)
    settings = GenerationConfig(
        max_new_tokens=6, do_sample=False, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    with torch.no_grad():
        assert (model(**plain).logits - model(**ours()).logits).abs().max() == 0.0
        library = model.generate(**plain, generation_config=settings)
        own = model.generate(**ours(), generation_config=settings)
    assert torch.equal(library.sequences, own.sequences)
    for a, b in zip(library.logits, own.logits, strict=True):
        assert (a - b).abs().max() == 0.0


def test_events_do_not_depend_on_their_neighbours(family, student_config, make_frames):
    tower = VisionTower(student_config(family))
    events = [
        make_frames(n, seed=n, size=size)
        for n, size in ((5, (24, 32)), (2, (32, 16)), (4, (24, 32)))
    ]
    together = tower.encode_events(events)
    alone = [tower.encode_events([e])[0] for e in events]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.groups_TPD, b.groups_TPD, rtol=1e-5, atol=1e-5)
        assert a.grid_hw == b.grid_hw
        if family == "qwen3_vl":
            torch.testing.assert_close(a.deepstack_LTPD, b.deepstack_LTPD, rtol=1e-5, atol=1e-5)
    assert [e.groups_TPD.shape[0] for e in together] == [3, 1, 2]


def test_groups_of_one_event_are_independent(family, student_config, make_frames):
    """What makes index-time features possible: a group's features do not know the others."""
    tower = VisionTower(student_config(family))
    frames, times_s = make_frames(6)
    (whole,) = tower.encode_events([(frames, times_s)])
    parts = tower.encode_events([(frames[i : i + 2], times_s[i : i + 2]) for i in (0, 2, 4)])
    torch.testing.assert_close(
        whole.groups_TPD, torch.cat([p.groups_TPD for p in parts]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("live", [False, True])
def test_gradients_with_cached_and_with_live_features(family, live, student_config, make_frames):
    config = student_config(family)
    files, (model, _, _) = StudentFiles(config), load_model(config)
    with torch.set_grad_enabled(live):
        features = encode_events(
            model.model.visual,
            files.adapter,
            files.pixels,
            [make_frames(8)],
            max_pixels=config.frame_max_pixels,
        )
        video = compressed(features, ONE)
    record = SamplingRecord(temperature=1.0, suppressed_ids=())
    drawn = Drawn(evidence=files.evidence(PROMPT, video), completions=[[8, 9]], record=record)
    (values,) = Policy(model, files.adapter, pad_id=0)([drawn]).log_probs
    (-values.sum()).backward()
    visual = [p.grad for n, p in model.named_parameters() if "visual" in n]
    language = [p.grad for n, p in model.named_parameters() if "language_model.layers" in n]
    assert all(g is not None and g.abs().sum() > 0 for g in language)
    assert any(g is not None and g.abs().sum() > 0 for g in visual) is live


def test_compression_changes_what_the_student_sees(family, student_config, make_frames):
    config = student_config(family)
    files, features = StudentFiles(config), VisionTower(config).encode_events([make_frames(16)])
    few, many = (files.evidence(PROMPT, compressed(features, c)) for c in (ONE, NONE))
    assert (few.num_tokens, many.num_tokens) == (12, 96)
    assert few.source_tokens == many.num_tokens
    assert np.isfinite(few.tokens_ND.numpy()).all()
