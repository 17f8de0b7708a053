"""Divergences against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from marc_core.models.divergence import TokenDistribution, divergence, stacked

STUDENT, TEACHER = [0.5, 0.3, 0.2], [0.2, 0.7, 0.1]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_whole_distributions_by_hand():
    student, teacher = (torch.tensor([x]).log() for x in (STUDENT, TEACHER))
    reverse, forward = divergence(student, teacher), divergence(student, teacher, "forward")
    assert reverse.item() == pytest.approx(kl(STUDENT, TEACHER), rel=1e-4)
    assert forward.item() == pytest.approx(kl(TEACHER, STUDENT), rel=1e-4)


def test_what_the_teacher_leaves_out_counts_as_one_more_token():
    student, teacher = (torch.tensor([x[:2]]).log() for x in (STUDENT, TEACHER))
    assert divergence(student, teacher).item() == pytest.approx(kl(STUDENT, TEACHER), rel=1e-5)
    student, teacher = (torch.tensor([x[:1]]).log() for x in (STUDENT, TEACHER))
    lumped = kl([0.5, 0.5], [0.2, 0.8])
    assert divergence(student, teacher).item() == pytest.approx(lumped, rel=1e-5)
    assert lumped < kl(STUDENT, TEACHER)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_the_gradient_is_that_of_the_exact_divergence(direction):
    torch.manual_seed(0)
    scores = torch.randn(4, 9, requires_grad=True)
    teacher = torch.randn(4, 9).log_softmax(-1)
    student = scores.log_softmax(-1)
    ids = teacher.topk(9).indices
    ours = divergence(student.gather(1, ids), teacher.gather(1, ids), direction).sum()
    (found,) = torch.autograd.grad(ours, scores, retain_graph=True)
    pairs = (student, teacher) if direction == "reverse" else (teacher, student)
    exact = (pairs[0].exp() * (pairs[0] - pairs[1])).sum()
    (expected,) = torch.autograd.grad(exact, scores)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_completions_without_a_teacher_do_not_diverge():
    given = TokenDistribution(
        ids_CK=torch.tensor([[3, 5], [1, 0]]),
        log_probs_CK=torch.tensor([[0.6, 0.4], [1.0, 0.0]]).log(),
    )
    ids, values = stacked([2, given])
    assert ids.tolist() == [[0, 0], [0, 0], [3, 5], [1, 0]]
    student = torch.zeros(4, 2) - 1.0
    student[3] = torch.tensor([0.0, -torch.inf])
    apart = divergence(student.requires_grad_(), values)
    assert apart[:2].tolist() == [0.0, 0.0]
    assert apart[3].item() == pytest.approx(0.0, abs=1e-5)
    apart.sum().backward()
    assert student.grad[:2].abs().sum() == 0
    assert torch.isfinite(student.grad).all()
