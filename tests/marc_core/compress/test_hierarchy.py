"""The hierarchy over tokens: the greedy merge, its upper part, and cuts, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from marc_core.compress import hierarchy as module
from marc_core.compress.hierarchy import average_linkage, cut, event_hierarchy
from marc_core.compress.hierarchy import build_hierarchy as build
from marc_core.types import EventFeatures


def build_hierarchy(*tokens, **settings):
    return build(*tokens, grid_hw=(1, 1), num_source_groups=1, **settings)


def tokens(num_groups: int, per_group: int, dim: int = 8, seed: int = 0):
    x = torch.randn(num_groups * per_group, dim, generator=torch.manual_seed(seed))
    groups = np.repeat(np.arange(num_groups), per_group)
    side = int(per_group**0.5)
    place = np.tile(np.stack([np.arange(per_group) // side, np.arange(per_group) % side], 1),
                    (num_groups, 1))  # fmt: skip
    positions = torch.from_numpy(np.column_stack([groups * 2.0, place])).float()
    return x, positions, groups


def distances(x: torch.Tensor) -> np.ndarray:
    unit = torch.nn.functional.normalize(x.double(), dim=-1).numpy()
    return 1.0 - unit @ unit.T


def greedy(d: np.ndarray, counts: np.ndarray) -> list[tuple[frozenset[int], frozenset[int]]]:
    """Average linkage taken literally: join the two clusters of least mean pair distance."""
    clusters = [frozenset([i]) for i in range(len(d))]
    joined = []
    while len(clusters) > 1:

        def mean(pair):
            a, b = (sorted(c) for c in pair)
            w = np.outer(counts[a], counts[b])
            return (w * d[np.ix_(a, b)]).sum() / w.sum()

        a, b = min(itertools.combinations(clusters, 2), key=mean)
        joined.append((a, b))
        clusters = [c for c in clusters if c not in (a, b)] + [a | b]
    return joined


def as_sets(merges: np.ndarray, num: int):
    sets = [frozenset([i]) for i in range(num)]
    pairs = []
    for a, b in merges:
        pairs.append({sets[a], sets[b]})
        sets.append(sets[a] | sets[b])
    return pairs


@pytest.mark.parametrize("seed", range(5))
def test_the_chain_joins_what_the_greedy_merge_joins(seed):
    x, _, _ = tokens(4, 4, seed=seed)
    counts = np.random.default_rng(seed).integers(1, 4, len(x)).astype(float)
    d = distances(x)
    merges, heights = average_linkage(d.copy(), counts)
    assert as_sets(merges, len(x)) == [set(pair) for pair in greedy(d, counts)]
    assert (np.diff(heights) >= 0).all()


def test_heights_equal_a_library_s():
    x, _, _ = tokens(12, 9, seed=3)
    d = distances(x)
    _, heights = average_linkage(d.copy(), np.ones(len(x)))
    condensed = squareform(np.maximum(d, 0), checks=False)
    np.testing.assert_allclose(heights, linkage(condensed, "average")[:, 2], atol=1e-5)


def test_a_cut_is_the_clustering_into_so_many():
    x, positions, groups = tokens(6, 4, seed=1)
    found = build_hierarchy(x, positions, groups, max_tokens=10)
    joined = greedy(distances(x), np.ones(len(x)))
    for wanted in range(1, 11):
        clusters = {frozenset([i]) for i in range(len(x))}
        for a, b in joined[: len(x) - wanted]:
            clusters = (clusters - {a, b}) | {a | b}
        rows = cut(found, wanted)
        assert len(rows) == wanted
        assert rows.max() < 2 * wanted - 1
        assert sorted(found.counts_R[rows]) == sorted(float(len(c)) for c in clusters)


def test_a_node_is_the_weighted_mean_of_its_tokens():
    x, positions, groups = tokens(3, 4, seed=2)
    found = build_hierarchy(x, positions, groups, max_tokens=12)
    cos = torch.nn.functional.cosine_similarity
    group_means = torch.stack([x[groups == g].mean(0) for g in groups])
    u = -cos(x, x.mean(0, keepdim=True), dim=-1) - cos(x, group_means, dim=-1)
    w = torch.exp(2 * u)
    torch.testing.assert_close(found.nodes_RD[0], (w[:, None] * x).sum(0) / w.sum())
    expected = (w[:, None] * positions).sum(0) / w.sum()
    torch.testing.assert_close(found.positions_R3[0], expected)
    leaves = cut(found, 12)
    torch.testing.assert_close(found.nodes_RD[leaves], x)
    torch.testing.assert_close(found.positions_R3[leaves], positions)


def test_two_parts_make_a_whole():
    x, positions, groups = tokens(5, 9, seed=4)
    found = build_hierarchy(x, positions, groups, max_tokens=20)
    for split in range(1, found.max_tokens):
        parent = found.parents_R[2 * split - 1]
        assert found.parents_R[2 * split] == parent
        both = found.counts_R[2 * split - 1] + found.counts_R[2 * split]
        assert both == found.counts_R[parent]
        assert found.heights_R[2 * split] <= found.heights_R[parent]


def test_fewer_stored_nodes_are_the_first_of_more():
    x, positions, groups = tokens(5, 9, seed=5)
    few = build_hierarchy(x, positions, groups, max_tokens=5)
    many = build_hierarchy(x, positions, groups, max_tokens=30)
    torch.testing.assert_close(few.nodes_RD, many.nodes_RD[:9])
    np.testing.assert_array_equal(few.parents_R, many.parents_R[:9])


def test_equal_tokens_join_first_and_heights_stay_at_zero():
    x, _, _ = tokens(4, 4, seed=6)
    x[1], x[7] = x[0], x[0]
    merges, heights = average_linkage(distances(x), np.ones(16))
    assert heights.min() >= 0
    assert {frozenset(m) for m in as_sets(merges, 16)[:1][0]} <= {
        frozenset([0]), frozenset([1]), frozenset([7])
    }  # fmt: skip


def test_deepstack_layers_are_merged_alike():
    x, positions, groups = tokens(3, 4, seed=7)
    found = build_hierarchy(
        x, positions, groups, max_tokens=6, deepstack_LND=torch.stack([2 * x, -x])
    )
    torch.testing.assert_close(found.deepstack_LRD[0], 2 * found.nodes_RD)
    torch.testing.assert_close(found.deepstack_LRD[1], -found.nodes_RD)


def test_one_token_is_its_own_hierarchy():
    x, positions, groups = tokens(1, 1)
    found = build_hierarchy(x, positions, groups, max_tokens=9)
    assert found.max_tokens == 1
    torch.testing.assert_close(found.nodes_RD, x)
    assert cut(found, 9).tolist() == [0]


def test_tokens_of_a_cut_come_in_order_of_time_and_place():
    x, positions, groups = tokens(6, 4, seed=8)
    found = build_hierarchy(x, positions, groups, max_tokens=24)
    shown = found.positions_R3[cut(found, 24)].tolist()
    assert shown == sorted(shown)


def test_a_long_event_is_reduced_in_stretches_of_time_first(monkeypatch):
    monkeypatch.setattr(module, "MAX_TREE_TOKENS", 24)
    x, positions, groups = tokens(20, 4, seed=9)
    found = build_hierarchy(x, positions, groups, max_tokens=8)
    assert found.counts_R[0] == 80
    for wanted in range(1, 9):
        rows = cut(found, wanted)
        assert len(rows) == wanted
        assert found.counts_R[rows].sum() == 80
    assert (np.diff(found.heights_R[found.parents_R[1::2]]) <= 1e-6).all()


def test_an_event_s_tokens_carry_time_row_and_column():
    x, positions, groups = tokens(5, 6, seed=4)
    places = [[r, c] for r in range(2) for c in range(3)] * 5
    positions[:, 1:] = torch.tensor(places)
    event = EventFeatures(
        groups_TPD=x.reshape(5, 6, -1),
        grid_hw=(2, 3),
        times_T=torch.arange(5) * 2.0,
        num_source_groups=7,
    )
    found = event_hierarchy(event, max_tokens=11)
    same = build(x, positions, groups, max_tokens=11, grid_hw=(2, 3), num_source_groups=7)
    torch.testing.assert_close(found.nodes_RD, same.nodes_RD)
    torch.testing.assert_close(found.positions_R3, same.positions_R3)
    assert found.num_source_tokens == 42


def test_the_head_is_what_small_cuts_need():
    x, positions, groups = tokens(6, 9)
    whole = build_hierarchy(x, positions, groups, max_tokens=30)
    head = whole.head(4)
    assert len(head.parents_R) == 7
    for wanted in range(1, 5):
        np.testing.assert_array_equal(cut(head, wanted), cut(whole, wanted))
    assert whole.head(99).max_tokens == whole.max_tokens
