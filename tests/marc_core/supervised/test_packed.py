"""Rows of several questions give what each question gives alone, and what they say is learned."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from marc_core.errors import TrainingError
from marc_core.models.loading import load_model
from marc_core.models.policy import Drawn, Policy
from marc_core.models.sampling import record_of, suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.question import EventFilter, Question
from marc_core.rl.samples import TrainSample
from marc_core.supervised.packed_set import pack_set, target_of
from marc_core.supervised.task import SupervisedTask, all_right, step_rows

CHOICES = ("the letter", "the right option", "right a")
ASKED = [
    # text, choices, answers, groups, seed, video
    ("what is red ?", (), ("right",), 2, 1, "a"),
    ("what is the letter ?", CHOICES, ("B",), 2, 1, "a"),
    ("what is a ?", CHOICES, ("C",), 2, 1, "a"),
    ("what is red ?", CHOICES, ("A",), 1, 2, "a"),
    ("is a blue ?", (), ("a",), 3, 3, "b"),
    ("is a blue ?", (), (), 3, 3, "b"),
]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl"])
def world(request, student_config, make_evidence, tmp_path_factory):
    """(samples, their evidence, packed set, task on the whole model)."""
    config = student_config(request.param)
    files = StudentFiles(config)
    evidence = [
        make_evidence(config, text, groups=groups, seed=seed, choices=choices)
        for text, choices, _, groups, seed, _ in ASKED
    ]
    samples = [
        TrainSample(
            id=f"{video}/{i}",
            question=Question(text=text, filter=EventFilter(video_ids=(video,))),
            problem_type="multiple choice" if choices else "free-form",
            answers=answers,
            source=f"test/{i % 2}",
            evidence=e.to_bytes(),
        )
        for i, ((text, choices, answers, *_, video), e) in enumerate(
            zip(ASKED, evidence, strict=True)
        )
    ]
    data = pack_set(samples, files, tmp_path_factory.mktemp("packed") / "set", name="test")
    model, _, _ = load_model(config)
    task = SupervisedTask(
        model, data, suppressed_ids=suppressed_ids(model.config), questions_per_step=2
    )
    return samples, evidence, data, task, files


def expected(world):
    """- log p of each answer, one question at a time, by the policy."""
    samples, evidence, _, task, files = world
    policy = Policy(task.student, files.adapter, pad_id=0)
    found = []
    for sample, own in zip(samples, evidence, strict=True):
        target = target_of(sample, own, files.tokenizer)
        if target is None:
            continue
        record = record_of(
            own.choices,
            1.0,
            tokenizer=files.tokenizer,
            end_id=files.tokenizer.eos_token_id,
            suppressed_ids=suppressed_ids(task.student.config),
        )
        drawn = Drawn(evidence=own, completions=[target.ids], record=record)
        found.append(policy([drawn]).log_probs[0].sum())
    return torch.stack(found)


def by_question(batch, log_probs_P):
    total = torch.zeros(len(batch.sources), dtype=log_probs_P.dtype)
    return total.index_add(0, batch.question_P, log_probs_P)


def test_questions_that_read_the_same_tokens_share_a_row(world):
    _, _, data, _, _ = world
    assert data.num_questions == 5  # one has no known answer
    assert sorted(data.questions_R.tolist()) == [1, 1, 3]


def test_log_probabilities_are_those_of_each_question_alone(world):
    samples, _, data, task, _ = world
    batch = data.batch(range(data.num_rows))
    # Visual tokens are stored in bfloat16; the plain way reads the same ones here.
    rounded = [
        dataclasses.replace(e, tokens_ND=e.tokens_ND.to(torch.bfloat16).float()) for e in world[1]
    ]
    want = expected((samples, rounded, data, task, world[4]))
    log_probs_P, right_P = task.answers(batch)
    torch.testing.assert_close(by_question(batch, log_probs_P), want, atol=1e-4, rtol=1e-4)
    right_Q = all_right(right_P, batch.question_P, len(batch.sources))
    likely = want.exp() > 0.5
    assert bool((right_Q | ~likely).all())  # what is more probable than all else is what is said


def test_gradients_are_those_of_each_question_alone(world):
    samples, _, data, task, _ = world
    rounded = [
        dataclasses.replace(e, tokens_ND=e.tokens_ND.to(torch.bfloat16).float()) for e in world[1]
    ]
    task.zero_grad()
    (-expected((samples, rounded, data, task, world[4])).mean()).backward()
    want = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
    task.zero_grad()
    loss, _ = task(data.batch(range(data.num_rows)), data.num_questions)
    loss.backward()
    got = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    assert got.keys() == want.keys()
    assert not any("visual" in name for name in got)
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_workers_share_a_step(world):
    _, _, data, one, _ = world
    task = SupervisedTask(
        one.student, data, suppressed_ids=one.suppressed_ids, questions_per_step=5
    )
    whole, _ = task(*task.batch(0, 0, 0))
    parts = []
    for rank in range(2):
        shared = SupervisedTask(
            task.student, data, suppressed_ids=task.suppressed_ids, questions_per_step=5, size=2
        )
        parts.append(float(shared(*shared.batch(0, 0, rank))[0].detach()))
    assert sum(parts) / 2 == pytest.approx(float(whole.detach()), rel=1e-5)


def test_packing_again_keeps_what_is_there(world, tmp_path):
    samples, _, _, _, files = world
    first = pack_set(samples, files, tmp_path / "set", name="one")
    kept = pack_set(iter(()), files, tmp_path / "set", name="one")
    assert kept.num_questions == first.num_questions
    with pytest.raises(TrainingError, match="Got none"):
        pack_set(iter(()), files, tmp_path / "set", name="two")


def test_a_letter_that_names_no_option_is_an_error(world):
    samples, evidence, _, _, files = world
    wrong = dataclasses.replace(samples[1], answers=("D",))
    with pytest.raises(TrainingError, match="one of its 3 options"):
        target_of(wrong, evidence[1], files.tokenizer)


def test_a_set_of_another_tower_is_refused(world, tmp_path):
    samples, evidence, _, _, files = world
    other = dataclasses.replace(evidence[0], vision_fingerprint="other")
    sample = dataclasses.replace(samples[0], evidence=other.to_bytes())
    with pytest.raises(TrainingError, match="vision tower"):
        pack_set([sample], files, tmp_path / "set", name="other")


def test_every_row_is_seen_once_before_any_is_seen_again():
    questions_R = np.array([1, 3, 2, 2, 4, 1, 2, 1])  # 2 on average
    steps = [step_rows(questions_R, 4, 7, step) for step in range(8)]
    for epoch in (steps[:4], steps[4:]):
        assert sorted(np.concatenate(epoch).tolist()) == list(range(8))
    assert np.concatenate(steps[:4]).tolist() != np.concatenate(steps[4:]).tolist()
    assert step_rows(questions_R, 4, 7, 3).tolist() == steps[3].tolist()
