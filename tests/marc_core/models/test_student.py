"""Proofs on tiny random models of all three families, float32.

Identity compression equals the plain model; a batch equals its rows; teacher forcing equals
generation; cached features equal fresh ones; gradients go where they should.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from marc_core.compress import compress_across, compress_event
from marc_core.config import CompressConfig
from marc_core.models.preprocess import frames_to_patches

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
NONE = CompressConfig(mode="none")
ONE = CompressConfig(budget_groups=1)
PROMPT = "what is red ?"

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def plain_inputs(student, prepared, frames):
    """What the library's own processor would give for the same prompt."""
    pixels, grid = frames_to_patches(
        frames, student.pixels, max_pixels=student.config.frame_max_pixels
    )
    ids = torch.tensor([prepared.input_ids])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": 2 * (ids == student.model.config.video_token_id).int(),
        "pixel_values_videos": pixels,
        "video_grid_thw": torch.tensor([grid]),
    }
    if student.model.config.model_type == "qwen2_5_vl":
        inputs["second_per_grid_ts"] = torch.tensor([2.0])
    return inputs


def compressed(student, frames, config=ONE):
    events = [compress_event(e, config) for e in student.encode_events([frames])]
    return compress_across(events, config)


@pytest.mark.parametrize("num_frames", [2, 8])
def test_identity_compression_equals_the_plain_forward(
    family, num_frames, make_student, make_frames
):
    student = make_student(family, position_rule="hf5")
    frames, times_s = make_frames(num_frames)
    with torch.no_grad():
        video = compressed(student, (frames, times_s), NONE)
        prepared = student.prepare(PROMPT, video)
        plain = student.model(**plain_inputs(student, prepared, frames)).logits
        ours = student.model(**student._collate([prepared])).logits
    assert video.groups_KPD.shape[0] == num_frames // 2
    assert (plain - ours).abs().max() == 0.0


def test_identity_compression_equals_plain_generation(family, make_student, make_frames):
    student = make_student(family, position_rule="hf5", max_new_tokens=6)
    frames, times_s = make_frames(8)
    prepared = student.prepare(PROMPT, compressed(student, (frames, times_s), NONE))
    settings = student._generation_config(None, None, 1)
    settings.output_logits = settings.return_dict_in_generate = True
    with torch.no_grad():
        plain = student.model.generate(
            **plain_inputs(student, prepared, frames), generation_config=settings
        )
        ours = student.model.generate(**student._collate([prepared]), generation_config=settings)
    assert torch.equal(plain.sequences, ours.sequences)
    for a, b in zip(plain.logits, ours.logits, strict=True):
        assert (a - b).abs().max() == 0.0


def test_batch_equals_single(family, make_student, make_frames):
    student = make_student(family)
    prompts = [PROMPT, "what is the letter of the right option ?", "a ?"]
    videos = [
        compressed(student, make_frames(8, seed=1)),
        compressed(student, make_frames(4, seed=2, size=(32, 16)), NONE),
        None,
    ]
    together = student.generate(prompts, videos)
    alone = [student.generate([p], [v])[0] for p, v in zip(prompts, videos, strict=True)]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert [g.visual_tokens for g in together] == [12, 16, 0]
    prepared = [student.prepare(p, v) for p, v in zip(prompts, videos, strict=True)]
    completions = [[8, 9, 10], [11], [12, 13]]
    with torch.no_grad():
        batch = student.logits(prepared, completions).log_probs()
        for i in range(3):
            single = student.logits(prepared[i : i + 1], completions[i : i + 1]).log_probs()
            torch.testing.assert_close(
                batch[i : i + 1, : len(completions[i])], single, rtol=1e-4, atol=1e-4
            )
    assert (batch[1, 1:] == 0).all()


def test_teacher_forcing_equals_generation(family, make_student, make_frames):
    student = make_student(family)
    prepared = [
        student.prepare(PROMPT, compressed(student, make_frames(8))),
        student.prepare(
            "a ?", compressed(student, make_frames(5, seed=1), CompressConfig(budget_groups=2))
        ),
    ]
    settings = student._generation_config(5, 1.0, 2)
    settings.output_logits = settings.return_dict_in_generate = True
    torch.manual_seed(0)
    with torch.no_grad():
        out = student.model.generate(**student._collate(prepared), generation_config=settings)
    length = max(len(p.input_ids) for p in prepared)
    completions = out.sequences[:, length:].tolist()
    prepared_twice = [prepared[0], prepared[0], prepared[1], prepared[1]]
    with torch.no_grad():
        forced = student.logits(prepared_twice, completions).logits_BCV
    generated = torch.stack(out.logits, dim=1)
    finished = (
        torch.tensor(completions)
        .eq(student._eos_ids[0])
        .cumsum(1)
        .sub(torch.tensor(completions).eq(student._eos_ids[0]).int())
        > 0
    )
    difference = (forced - generated).abs().amax(-1).masked_fill(finished, 0)
    assert difference.max() < 1e-3


def test_several_samples_do_not_corrupt_the_features(family, make_student, make_frames):
    student = make_student(family)
    videos = [compressed(student, make_frames(8, seed=i), NONE) for i in range(2)]
    before = [v.groups_KPD.clone() for v in videos]
    greedy = student.generate([PROMPT] * 2, videos)
    sampled = student.generate(
        [PROMPT] * 2, videos, temperature=1.0, num_return_sequences=3, seed=1
    )
    assert len(sampled) == 6
    assert all(torch.equal(a, v.groups_KPD) for a, v in zip(before, videos, strict=True))
    again = student.generate([PROMPT] * 2, videos)
    assert [g.token_ids for g in greedy] == [g.token_ids for g in again]
    alone = student.generate([PROMPT], videos[1:], num_return_sequences=1)
    assert alone[0].token_ids == greedy[1].token_ids


def test_a_seed_repeats_samples_and_leaves_the_process_alone(family, make_student, make_frames):
    student = make_student(family)
    video = compressed(student, make_frames(4))
    state = torch.get_rng_state()
    runs = [
        [g.token_ids for g in student.generate([PROMPT], [video], temperature=1.5,
                                               num_return_sequences=4, seed=seed)]
        for seed in (3, 3, 4)
    ]  # fmt: skip
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(state, torch.get_rng_state())


def test_an_answer_is_one_of_its_choices(family, make_student, make_frames):
    student = make_student(family)
    videos = [compressed(student, make_frames(4)), None]
    choices = ["the letter", "the right option", "a"]
    free, chosen = student.generate([PROMPT, "a ?"], videos, choices=[(), choices])
    assert free.token_ids == student.generate([PROMPT], videos[:1])[0].token_ids
    assert chosen.text in choices
    assert chosen.finished
    sampled = student.generate(
        ["a ?"], [None], temperature=100.0, num_return_sequences=16, seed=0, choices=[choices]
    )
    assert {g.text for g in sampled} == set(choices)
    only = student.generate(["a ?"] * 2, [None] * 2, choices=[["a"], ["the letter"]])
    assert [g.text for g in only] == ["a", "the letter"]


def test_visual_tokens_are_never_sampled(family, make_student, make_frames):
    student = make_student(family)
    video = compressed(student, make_frames(4))
    out = student.generate([PROMPT], [video], temperature=100.0, num_return_sequences=32,
                           max_new_tokens=8, seed=0)  # fmt: skip
    config = student.model.config
    banned = {config.video_token_id, config.image_token_id, config.vision_start_token_id,
              config.vision_end_token_id}  # fmt: skip
    assert not banned & {t for g in out for t in g.token_ids}


def test_events_do_not_depend_on_their_neighbours(family, make_student, make_frames):
    student = make_student(family)
    events = [
        make_frames(n, seed=n, size=size)
        for n, size in ((5, (24, 32)), (2, (32, 16)), (4, (24, 32)))
    ]
    with torch.no_grad():
        together = student.encode_events(events)
        alone = [student.encode_events([e])[0] for e in events]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.groups_TPD, b.groups_TPD, rtol=1e-5, atol=1e-5)
        assert a.grid_hw == b.grid_hw
        if family == "qwen3_vl":
            torch.testing.assert_close(a.deepstack_LTPD, b.deepstack_LTPD, rtol=1e-5, atol=1e-5)
        else:
            assert a.deepstack_LTPD is None
    assert [e.groups_TPD.shape[0] for e in together] == [3, 1, 2]


def test_groups_of_one_event_are_independent(family, make_student, make_frames):
    """What makes index-time features possible: a group's features do not know the others."""
    student = make_student(family)
    frames, times_s = make_frames(6)
    with torch.no_grad():
        whole = student.encode_events([(frames, times_s)])[0].groups_TPD
        parts = student.encode_events([(frames[i : i + 2], times_s[i : i + 2]) for i in (0, 2, 4)])
    torch.testing.assert_close(
        whole, torch.cat([p.groups_TPD for p in parts]), rtol=1e-5, atol=1e-5
    )


def test_cached_features_answer_like_fresh_ones(family, make_student, make_frames):
    """Stored as bytes of the model's dtype and read back, as the memory does."""
    student = make_student(family)
    fresh = compress_event(student.encode_events([make_frames(12)])[0], ONE)

    def stored(x):
        x = x.detach()
        return torch.from_numpy(
            np.frombuffer(x.numpy().tobytes(), np.float32).reshape(x.shape).copy()
        )

    deepstack = fresh.deepstack_LTPD
    cached = replace(
        fresh,
        groups_TPD=stored(fresh.groups_TPD),
        deepstack_LTPD=None if deepstack is None else stored(deepstack),
    )
    answers = [student.generate([PROMPT], [compress_across([e], ONE)])[0] for e in (fresh, cached)]
    assert answers[0].token_ids == answers[1].token_ids


def test_gradients_with_cached_and_with_live_features(family, make_student, make_frames):
    student = make_student(family)
    for live in (False, True):
        student.model.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(live):
            video = compressed(student, make_frames(8))
        prepared = student.prepare(PROMPT, video)
        loss = -student.logits([prepared], [student.completion_ids("A")]).log_probs().sum()
        loss.backward()
        visual = [p.grad for n, p in student.model.named_parameters() if "visual" in n]
        language = [
            p.grad for n, p in student.model.named_parameters() if "language_model.layers" in n
        ]
        assert all(g is not None and g.abs().sum() > 0 for g in language)
        assert any(g is not None and g.abs().sum() > 0 for g in visual) is live


def test_compression_changes_what_the_student_sees(family, make_student, make_frames):
    student = make_student(family)
    frames = make_frames(16)
    with torch.no_grad():
        few, many = compressed(student, frames, ONE), compressed(student, frames, NONE)
    assert (few.num_tokens, many.num_tokens) == (12, 96)
    assert few.num_source_tokens == many.num_tokens
    answers = student.generate([PROMPT] * 2, [few, many])
    assert [g.visual_tokens for g in answers] == [12, 96]


def test_completion_ends_with_the_end_token(family, make_student):
    student = make_student(family)
    ids = student.completion_ids("A")
    assert student.tokenizer.decode(ids[:1]) == "A"
    assert ids[-1] == student.tokenizer.eos_token_id
