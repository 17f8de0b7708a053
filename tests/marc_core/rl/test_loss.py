"""The clipped objective against values and gradients computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from marc_core.rl.loss import clipped_loss, importance_weights, k3, teacher_advantages, units

MASK = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()


def batch(seed: int = 0):
    generator = torch.manual_seed(seed)
    new = (-torch.rand(2, 3, generator=generator)).requires_grad_()
    old = -torch.rand(2, 3, generator=generator)
    return new, old, torch.tensor([1.0, -0.5])


def test_on_policy_the_loss_is_minus_the_advantage_and_its_gradient_is_reinforce():
    new, _, adv = batch()
    terms = clipped_loss(new, new.detach(), adv, MASK)
    assert terms.loss.item() == pytest.approx(-(1.0 - 0.5) / 2)
    terms.loss.backward()
    expected = -torch.tensor([[1 / 2, 1 / 2, 0.0], [-0.5 / 3] * 3]) / 2
    torch.testing.assert_close(new.grad, expected)
    assert terms.clip_fraction == 0.0
    assert terms.ratio == pytest.approx(1.0)


def test_a_ratio_is_clipped_only_where_that_is_pessimistic():
    ratios = torch.tensor([[1.5, 0.5, 1.0], [1.5, 0.5, 1.0]])
    new = ratios.log().requires_grad_()
    mask = torch.ones(2, 3).bool()
    terms = clipped_loss(
        new, torch.zeros(2, 3), torch.tensor([1.0, -1.0]), mask, clip_low=0.2, clip_high=0.3
    )
    gains = [1.3 + 0.5 + 1.0, -1.5 - 0.8 - 1.0]
    assert terms.loss.item() == pytest.approx(-sum(gains) / 6)
    assert terms.clip_fraction == pytest.approx(2 / 6)
    terms.loss.backward()
    assert new.grad[0, 0] == 0
    assert new.grad[1, 1] == 0


@pytest.mark.parametrize(
    ("average", "weights"),
    [("sequence", [[1 / 4] * 2 + [0], [1 / 6] * 3]), ("token", [[1 / 5] * 2 + [0], [1 / 5] * 3]),
     ("constant", [[1 / 8] * 2 + [0], [1 / 8] * 3])],
)  # fmt: skip
def test_how_tokens_are_averaged(average, weights):
    new, old, adv = batch()
    wide = {"clip_low": 0.99, "clip_high": 99.0}
    terms = clipped_loss(new, old, adv, MASK, average=average, max_tokens=4, **wide)
    by_hand = -((new - old).exp() * adv[:, None] * torch.tensor(weights)).sum()
    torch.testing.assert_close(terms.loss, by_hand)


def test_one_ratio_a_sequence():
    new, old, adv = batch(1)
    terms = clipped_loss(new, old, adv, MASK, ratio="sequence", clip_low=0.99, clip_high=99.0)
    log_ratio = (new - old).detach()
    s = [math.exp(log_ratio[0, :2].mean()), math.exp(log_ratio[1].mean())]
    assert terms.loss.item() == pytest.approx(-(s[0] * 1.0 - s[1] * 0.5) / 2, rel=1e-5)
    terms.loss.backward()
    torch.testing.assert_close(new.grad[1], torch.full((3,), s[1] * 0.5 / 3 / 2))
    assert new.grad[0, 2] == 0


def test_kl_is_the_k3_estimate_and_pulls_towards_the_reference():
    new, _, _ = batch(2)
    reference = new.detach() - 0.3
    assert (k3(new, reference) >= 0).all()
    terms = clipped_loss(
        new, new.detach(), torch.zeros(2), MASK, reference_log_probs_BC=reference, beta=0.5
    )
    one = math.exp(-0.3) + 0.3 - 1
    assert terms.kl == pytest.approx(one, rel=1e-5)
    assert terms.loss.item() == pytest.approx(0.5 * one, rel=1e-5)
    terms.loss.backward()
    assert (new.grad[MASK] > 0).all()  # descending lowers what lies above the reference


def test_padding_changes_nothing():
    new, old, adv = batch(3)
    changed = new.detach().clone()
    changed[0, 2] = -50.0
    first = clipped_loss(new, old, adv, MASK)
    second = clipped_loss(changed, old, adv, MASK)
    torch.testing.assert_close(first.loss.detach(), second.loss)


def test_an_answer_without_tokens_adds_nothing():
    new, old, adv = batch(4)
    mask = torch.tensor([[0, 0, 0], [1, 1, 1]]).bool()
    terms = clipped_loss(new, old, adv, mask)
    terms.loss.backward()
    assert new.grad[0].abs().max() == 0
    assert torch.isfinite(terms.loss)


def test_weights_of_stale_answers_are_truncated():
    drawn = torch.tensor([[-1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])
    now = torch.tensor([[-0.5, -0.9, 9.0], [-2.0, -1.0, -1.0]])
    found = importance_weights(now, drawn, MASK, most=1.5)
    torch.testing.assert_close(found, torch.tensor([1.5, math.exp(-1.0)]))


@pytest.mark.parametrize("average", ["sequence", "token", "constant"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_parts_of_a_batch_add_up_to_the_whole(average, ratio):
    new, old, adv = batch(5)
    reference = old - 0.2
    settings = {"average": average, "ratio": ratio, "max_tokens": 4, "beta": 0.1}
    whole = clipped_loss(new, old, adv, MASK, reference_log_probs_BC=reference, **settings)
    whole.loss.backward()
    gradient, new.grad = new.grad, None
    parts = [
        clipped_loss(
            new[i : i + 1], old[i : i + 1], adv[i : i + 1], MASK[i : i + 1],
            reference_log_probs_BC=reference[i : i + 1], normaliser=units(MASK, average),
            **settings,
        )
        for i in range(2)
    ]  # fmt: skip
    total = parts[0].loss + parts[1].loss
    total.backward()
    torch.testing.assert_close(total, whole.loss)
    torch.testing.assert_close(new.grad, gradient)
    torch.testing.assert_close(parts[0].sums + parts[1].sums, whole.sums)


def test_a_token_may_have_an_advantage_of_its_own():
    new, old, _ = batch(6)
    own = torch.tensor([[0.5, -1.0, 7.0], [0.0, 2.0, 0.25]])
    terms = clipped_loss(new, old, own, MASK, clip_low=0.99, clip_high=99.0)
    gains = (new - old).exp() * own
    by_hand = -(gains[0, :2].mean() + gains[1].mean()) / 2
    torch.testing.assert_close(terms.loss, by_hand)


def test_the_anchor_is_not_weighted_by_how_stale_an_answer_is():
    new, _, adv = batch(7)
    settings = {"reference_log_probs_BC": new.detach() - 0.3, "beta": 0.5}
    weights = torch.tensor([0.5, 2.0])
    terms = clipped_loss(new, new.detach(), adv, MASK, weights_B=weights, **settings)
    anchor = 0.5 * (math.exp(-0.3) + 0.3 - 1)
    assert terms.loss.item() == pytest.approx(-(0.5 * 1.0 + 2.0 * -0.5) / 2 + anchor, rel=1e-5)


def test_which_bound_holds_a_ratio_is_told_apart():
    new = torch.tensor([[1.5, 0.5, 1.5], [0.5, 0.5, 1.5]]).log()
    terms = clipped_loss(new, torch.zeros(2, 3), torch.tensor([1.0, -1.0]), MASK)
    assert terms.sums.tolist()[1:3] == [2.0, 1.0]  # 0.5 twice below, 1.5 once above
    assert terms.sums[4] == 5
    assert terms.clip_fraction == pytest.approx(3 / 5)


def test_a_teacher_s_log_probabilities_are_advantages_of_the_tokens_drawn():
    new, _, _ = batch(8)
    teacher = new.detach() + torch.tensor([[0.5, -0.5, 3.0], [0.0, 1.0, -1.0]])
    found = teacher_advantages(new, teacher, MASK)
    expected = torch.tensor([[0.5, -0.5, 0.0], [0.0, 1.0, -1.0]])
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_a_teacher_s_log_probabilities_give_the_gradient_of_the_reverse_kl():
    """The expected policy gradient of log teacher - log student is minus that of the KL."""
    scores = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    teacher = torch.tensor([0.7, 0.2, 0.1]).log()
    student = scores.log_softmax(-1)
    kl = (student.exp() * (student - teacher)).sum()
    (exact,) = torch.autograd.grad(kl, scores, retain_graph=True)
    own = teacher_advantages(student[:, None], teacher[:, None], torch.ones(3, 1))
    loss = -(student.detach().exp() * own[:, 0] * student).sum()
    (found,) = torch.autograd.grad(loss, scores)
    torch.testing.assert_close(found, exact)


def test_a_corrected_anchor_has_the_gradient_of_the_exact_kl():
    """Expectations over a distribution of three tokens, each a row."""
    scores = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    reference = torch.tensor([0.6, 0.3, 0.1]).log()
    student = scores.log_softmax(-1)
    exact = (student.exp() * (student - reference)).sum()
    (expected,) = torch.autograd.grad(exact, scores, retain_graph=True)
    found = {}
    for correct in (True, False):
        losses = [
            clipped_loss(
                student[i][None, None], student[i].detach()[None, None], torch.zeros(1),
                torch.ones(1, 1), reference_log_probs_BC=reference[i][None, None], beta=1.0,
                correct_kl=correct,
            ).loss
            for i in range(3)
        ]  # fmt: skip
        total = (student.detach().exp() * torch.stack(losses)).sum()
        assert total.item() == pytest.approx(exact.item(), abs=1e-6)
        (found[correct],) = torch.autograd.grad(total, scores, retain_graph=True)
    torch.testing.assert_close(found[True], expected)
    assert not torch.allclose(found[False], expected, atol=1e-2)
