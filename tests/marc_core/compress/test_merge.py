"""The plan equals the paper's procedure done naively on the features themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from marc_core.compress import apply_plan, merge_plan, similarity_gram


def naive_merge(x_TPD, target, *, window=0, weighted=False):
    """The paper's loop, literally: average the most similar adjacent pair until `target` left."""
    groups = [(x, [i]) for i, x in enumerate(x_TPD.double())]
    window = window or len(groups)
    while len(groups) > target:
        best = None
        for limit in (True, False):
            for i in range(len(groups) - 1):
                (a, of_a), (b, of_b) = groups[i], groups[i + 1]
                if limit and of_a[-1] // window != of_b[0] // window:
                    continue
                cosine = F.cosine_similarity(a, b, dim=-1).mean().item()
                if best is None or cosine > best[0]:
                    best = (cosine, i)
            if best is not None:
                break
        _, i = best
        (a, of_a), (b, of_b) = groups[i], groups[i + 1]
        share = len(of_a) / (len(of_a) + len(of_b)) if weighted else 0.5
        groups[i : i + 2] = [(share * a + (1 - share) * b, of_a + of_b)]
    return torch.stack([x for x, _ in groups]), [members for _, members in groups]


def features(num=12, tokens=5, dim=16, seed=0):
    """A random walk: neighbours are similar, as in a video."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(num, tokens, dim, generator=g).cumsum(0)


@pytest.mark.parametrize("mode", ["plain", "weighted"])
@pytest.mark.parametrize("window", [0, 1, 3, 4, 7, 12])
@pytest.mark.parametrize("target", [1, 2, 4, 5, 11])
def test_plan_equals_the_naive_merge(mode, window, target):
    for seed in range(4):
        x = features(seed=seed)
        merged, members = naive_merge(x, target, window=window, weighted=mode == "weighted")
        plan = merge_plan(x, target, window=window, mode=mode)
        assert [row.nonzero().flatten().tolist() for row in plan] == members
        torch.testing.assert_close(apply_plan(plan, x), merged.float(), rtol=1e-5, atol=1e-5)


def test_gram_holds_the_inner_products_of_aligned_patches():
    x = features(num=3, tokens=2, dim=4)
    gram = similarity_gram(x)
    assert gram.shape == (2, 3, 3)
    assert gram[1, 0, 2] == pytest.approx(float(x[0, 1] @ x[2, 1]), rel=1e-5)


def test_hand_computed_plain_and_weighted():
    """Groups 0, 1 are equal and merge first; the pair then merges with group 2."""
    x = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.6, 0.8]], [[-1.0, 0.0]]])
    plain = merge_plan(x, 2)
    assert plain.tolist() == [[0.25, 0.25, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]]
    weighted = merge_plan(x, 2, mode="weighted")
    torch.testing.assert_close(weighted[0], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))


def test_a_window_is_preferred_and_lifted_only_as_a_last_resort():
    x = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]], [[1.0, 0.2]]])
    assert merge_plan(x, 3, window=0).gt(0).sum(1).tolist() == [1, 2, 1]
    assert merge_plan(x, 3, window=2).gt(0).sum(1).tolist() in ([2, 1, 1], [1, 1, 2])
    assert merge_plan(x, 2, window=2).gt(0).sum(1).tolist() == [2, 2]
    assert merge_plan(x, 1, window=2).shape == (1, 4)


def test_weighted_to_one_group_is_the_uniform_mean_plain_is_not():
    x = features(num=16)
    uniform = torch.full((1, 16), 1 / 16)
    torch.testing.assert_close(merge_plan(x, 1, mode="weighted"), uniform)
    assert not torch.allclose(merge_plan(x, 1), uniform, atol=1e-2)


def test_rows_are_convex_and_groups_contiguous():
    plan = merge_plan(features(num=20), 6)
    assert plan.shape == (6, 20)
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(1), torch.ones(6))
    owner = plan.argmax(0)
    assert (owner.diff() >= 0).all()
    assert (plan.gt(0).sum(0) == 1).all()


def test_plans_of_parts_then_of_the_whole_multiply():
    x = features(num=12)
    first = merge_plan(x, 6)
    second = merge_plan(apply_plan(first, x), 2)
    both = second @ first
    torch.testing.assert_close(apply_plan(both, x), apply_plan(second, apply_plan(first, x)))


@pytest.mark.parametrize("target", [12, 13, 99])
def test_enough_budget_is_the_identity_bit_for_bit(target):
    x = features()
    assert apply_plan(merge_plan(x, target), x) is x


def test_mode_none_is_the_identity_whatever_the_target():
    assert torch.equal(merge_plan(features(), 1, mode="none"), torch.eye(12))


def test_target_zero_keeps_one_group():
    assert merge_plan(features(), 0).shape == (1, 12)


def test_gradients_flow_through_the_merge_by_the_plan():
    x = features().requires_grad_()
    plan = merge_plan(x, 3)
    assert not plan.requires_grad
    apply_plan(plan, x).sum().backward()
    torch.testing.assert_close(x.grad[:, 0, 0], plan.sum(0))


def test_bfloat16_stays_bfloat16_and_is_close():
    x = features()
    half = apply_plan(merge_plan(x, 3), x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), apply_plan(merge_plan(x, 3), x), rtol=0.02, atol=0.05)


def test_zero_tokens_do_not_break_the_similarity():
    x = torch.zeros(4, 2, 3)
    assert merge_plan(x, 2).isfinite().all()


def test_adaptive_merges_below_the_ceiling_only_what_is_alike():
    still = torch.ones(6, 2, 4) + 1e-3 * features(num=6, tokens=2, dim=4)
    other = -torch.ones(1, 2, 4)
    x = torch.cat([still, other, still])
    assert merge_plan(x, 8, merge_above=0.95).gt(0).sum(1).tolist() == [6, 1, 6]
    assert merge_plan(x, 99, merge_above=0.95).shape == (3, 13)
    assert merge_plan(x, 2, merge_above=0.95).shape == (2, 13)
    assert merge_plan(x, 8).shape == (8, 13)
    assert merge_plan(still, 4, merge_above=0.95).shape == (1, 6)


def test_the_plan_is_the_same_under_autocast():
    torch.manual_seed(0)
    x = torch.randn(9, 4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        plan = merge_plan(x, 3)
    assert torch.equal(plan, merge_plan(x, 3))
