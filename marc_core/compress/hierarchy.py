"""A hierarchy over an event's tokens, made once and cut at any number of tokens.

    tokens of an event --average linkage by cosine--> binary tree --keep the top--> Hierarchy
    Hierarchy --cut(n)--> n tokens, each with its own time and place

Averaging whole groups of different events destroys what they show; merging tokens that are alike,
inside one event, keeps it (our choice in place of the paper's stage 1 and 2, section 3.2; the
paper's merge is in `marc_core.compress.stages`). A node's vector and position do not depend on any
question, so the tree is made when a video is indexed, and only its upper nodes are stored: cuts up
to M tokens need the top 2 M - 1. Nodes are kept in the order in which cuts open them, so that a
cut at n tokens reads the first 2 n - 1 rows and nothing else.

Letters: N tokens of an event, R stored nodes, D channels, L deepstack layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from marc_core.types import EventFeatures

TREE_VERSION = 1
"""Changes with whatever changes a hierarchy; part of the name of stored features."""
UNIQUENESS_WEIGHT = 2.0
"""A member counts exp(2 x uniqueness) in its node (our choice, measured on the synthetic world)."""
MAX_TREE_TOKENS = 4096
"""Tokens of one tree (our choice: 0.7 CPU s; time and memory grow with the square). A longer
event is first reduced inside stretches of time."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The upper nodes of an event's tree, in the order in which cuts open them.

    nodes_RD: (R, D) weighted means of the tokens below each node, R odd. Node 0 is the root; the
    s-th split (s = 1, 2, ...) replaces its parent by nodes 2 s - 1 and 2 s.
    parents_R: (R,) int32, -1 for the root. positions_R3: (R, 3) float32 seconds, row, column.
    heights_R: (R,) float32 cosine distance at which the node's children were joined, 0 for a
    single token; it never rises from a node to its children. counts_R: (R,) tokens below each node.
    grid_hw, num_source_groups: of the event's frames before any merging. deepstack_LRD: (L, R, D),
    where the model has deepstack features.
    """

    nodes_RD: torch.Tensor
    parents_R: NDArray[np.int32]
    positions_R3: torch.Tensor
    heights_R: NDArray[np.float32]
    counts_R: NDArray[np.float32]
    grid_hw: tuple[int, int]
    num_source_groups: int
    deepstack_LRD: torch.Tensor | None = None

    @property
    def max_tokens(self) -> int:
        """The largest number of tokens that it can be cut into."""
        return (len(self.parents_R) + 1) // 2

    @property
    def num_source_tokens(self) -> int:
        """Visual tokens of the event without any compression."""
        return self.num_source_groups * self.grid_hw[0] * self.grid_hw[1]

    def head(self, num_tokens: int) -> Hierarchy:
        """Return the part of it that cuts up to `num_tokens` need."""
        rows = 2 * max(1, min(num_tokens, self.max_tokens)) - 1
        deepstack = self.deepstack_LRD
        return replace(
            self,
            nodes_RD=self.nodes_RD[:rows],
            parents_R=self.parents_R[:rows],
            positions_R3=self.positions_R3[:rows],
            heights_R=self.heights_R[:rows],
            counts_R=self.counts_R[:rows],
            deepstack_LRD=None if deepstack is None else deepstack[:, :rows],
        )


def event_hierarchy(event: EventFeatures, *, max_tokens: int) -> Hierarchy:
    """Return the hierarchy over all tokens of an event, enough for cuts up to `max_tokens`.

    Groups that a stage 1 has merged already (a memory of the paper's groups) count as groups.
    """
    groups, tokens, _ = event.groups_TPD.shape
    rows, columns = torch.meshgrid(
        torch.arange(event.grid_hw[0]), torch.arange(event.grid_hw[1]), indexing="ij"
    )
    places_P2 = torch.stack([rows, columns], dim=-1).reshape(-1, 2).float()
    times_N = event.times_T.cpu().float().repeat_interleave(tokens)
    deepstack = event.deepstack_LTPD
    return build_hierarchy(
        event.groups_TPD.flatten(0, 1),
        torch.cat([times_N[:, None], places_P2.repeat(groups, 1)], dim=1),
        np.repeat(np.arange(groups), tokens),
        max_tokens=max_tokens,
        grid_hw=event.grid_hw,
        num_source_groups=event.num_source_groups,
        deepstack_LND=None if deepstack is None else deepstack.flatten(1, 2),
    )


def build_hierarchy(
    tokens_ND: torch.Tensor,
    positions_N3: torch.Tensor,
    groups_N: NDArray[np.int64],
    *,
    max_tokens: int,
    grid_hw: tuple[int, int],
    num_source_groups: int,
    deepstack_LND: torch.Tensor | None = None,
) -> Hierarchy:
    """Return the hierarchy of an event's N >= 1 tokens, enough for cuts up to `max_tokens`.

    positions_N3: seconds, row and column of each token. groups_N: the temporal group of each, in
    ascending order. Deterministic; the result is on the CPU in the tokens' own precision.
    """
    assert len(tokens_ND) == len(positions_N3) == len(groups_N) > 0
    with torch.no_grad():
        x_ND = tokens_ND.detach().cpu().float()
        weights_N = _uniqueness_weights(x_ND, groups_N)
        order, heights = _tree(F.normalize(x_ND, dim=-1).numpy(), groups_N)
        top = _top(order, heights, len(x_ND), min(max_tokens, len(x_ND)))
        share_RN = _shares(top, weights_N, len(x_ND))
        deepstack = None
        if deepstack_LND is not None:
            merged = torch.einsum("rn,lnd->lrd", share_RN, deepstack_LND.detach().cpu().float())
            deepstack = merged.to(deepstack_LND.dtype)
    return Hierarchy(
        nodes_RD=(share_RN @ x_ND).to(tokens_ND.dtype),
        parents_R=top.parents,
        positions_R3=share_RN @ positions_N3.cpu().float(),
        heights_R=top.heights,
        counts_R=np.array([len(members) for members in top.members], np.float32),
        grid_hw=grid_hw,
        num_source_groups=num_source_groups,
        deepstack_LRD=deepstack,
    )


def cut(hierarchy: Hierarchy, num_tokens: int) -> NDArray[np.int64]:
    """Return the rows of the `num_tokens` nodes that remain when the tree is opened so far.

    Fewer where the event has fewer tokens; never more than `hierarchy.max_tokens`. Rows are in
    order of time, then row, then column of their positions.
    """
    wanted = max(1, min(num_tokens, hierarchy.max_tokens))
    opened = set(hierarchy.parents_R[1 : 2 * wanted - 1].tolist())
    rows = np.array([r for r in range(2 * wanted - 1) if r not in opened])
    keys = hierarchy.positions_R3[rows].numpy()
    return rows[np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0]))]


@dataclass(frozen=True, slots=True)
class _Top:
    parents: NDArray[np.int32]
    heights: NDArray[np.float32]
    members: list[NDArray[np.int64]]


def _uniqueness_weights(x_ND: torch.Tensor, groups_N: NDArray[np.int64]) -> torch.Tensor:
    """Return (N,) exp(2 u), u = - cos(token, event's mean) - cos(token, its group's mean)."""
    index_N = torch.from_numpy(np.unique(groups_N, return_inverse=True)[1].astype(np.int64))
    num = int(index_N.max()) + 1
    sums_TD = torch.zeros(num, x_ND.shape[1]).index_add_(0, index_N, x_ND)
    sizes_T = torch.bincount(index_N, minlength=num).clamp_min(1)[:, None]
    to_event = F.cosine_similarity(x_ND, x_ND.mean(0, keepdim=True), dim=-1)
    to_group = F.cosine_similarity(x_ND, (sums_TD / sizes_T)[index_N], dim=-1)
    weights_N: torch.Tensor = torch.exp(UNIQUENESS_WEIGHT * (-to_event - to_group))
    return weights_N


def _tree(
    unit_ND: NDArray[np.float32], groups_N: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the merges (N - 1, 2) of clusters and their heights, ascending; leaves are 0 .. N - 1
    and merge i makes cluster N + i."""
    num = len(unit_ND)
    if num <= MAX_TREE_TOKENS:
        return average_linkage(1.0 - unit_ND @ unit_ND.T, np.ones(num))
    pieces = -(-num // MAX_TREE_TOKENS)
    edges = np.searchsorted(groups_N, np.linspace(groups_N[0], groups_N[-1] + 1, pieces + 1))
    return _two_levels(unit_ND, [(a, b) for a, b in pairwise(edges.tolist()) if b > a])


def _two_levels(
    unit_ND: NDArray[np.float32], spans: list[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge inside each stretch of time down to an equal share, then all that is left together."""
    num, keep = len(unit_ND), MAX_TREE_TOKENS // len(spans)
    merges: list[tuple[int, int]] = []
    heights: list[float] = []
    left: list[int] = []
    sums, counts = {i: unit_ND[i] for i in range(num)}, dict.fromkeys(range(num), 1.0)

    def join(a: int, b: int, height: float) -> int:
        new = num + len(merges)
        merges.append((a, b))
        heights.append(height)
        sums[new], counts[new] = sums.pop(a) + sums.pop(b), counts[a] + counts[b]
        return new

    for start, end in spans:
        pairs, at = average_linkage(
            1.0 - unit_ND[start:end] @ unit_ND[start:end].T, np.ones(end - start)
        )
        names = list(range(start, end))
        alive = set(names)
        for (a, b), height in zip(pairs[: max(0, end - start - keep)], at, strict=False):
            names.append(join(names[a], names[b], float(height)))
            alive -= {names[a], names[b]}
            alive.add(names[-1])
        left += sorted(alive)
    means = np.stack([sums[i] / counts[i] for i in left])
    pairs, at = average_linkage(1.0 - means @ means.T, np.array([counts[i] for i in left]))
    floor = max(heights, default=0.0)
    names = list(left)
    for (a, b), height in zip(pairs, at, strict=True):
        names.append(join(names[a], names[b], max(float(height), floor)))
    return _sorted(np.array(merges), np.array(heights), num)


def average_linkage(
    distances_NN: NDArray[np.floating], counts_N: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return average linkage (UPGMA) as merges (N - 1, 2) and heights (N - 1,), ascending.

    distances_NN: symmetric, overwritten; negative rounding counts as 0. counts_N: items that each
    leaf stands for. Nearest-neighbour chain (Murtagh 1983): exactly the greedy merge of the two
    closest clusters, where a cluster's distance is the mean over all pairs of items.
    """
    d_NN = np.maximum(np.asarray(distances_NN, np.float32), 0.0)
    num = len(d_NN)
    np.fill_diagonal(d_NN, np.inf)
    size, name = counts_N.astype(np.float64).copy(), np.arange(num)
    alive = np.ones(num, bool)
    merges, heights, chain = np.empty((num - 1, 2), np.int64), np.empty(num - 1), list[int]()
    for step in range(num - 1):
        if not chain:
            chain.append(int(alive.argmax()))
        while True:
            a = chain[-1]
            b = int(d_NN[a].argmin())
            if len(chain) > 1 and d_NN[a, chain[-2]] <= d_NN[a, b]:
                b = chain[-2]
                break
            chain.append(b)
        del chain[-2:]
        keep, gone = min(a, b), max(a, b)
        merges[step], heights[step] = (name[keep], name[gone]), d_NN[a, b]
        share = size[keep] / (size[keep] + size[gone])
        row_N = share * d_NN[keep] + (1.0 - share) * d_NN[gone]
        row_N[keep] = np.inf
        d_NN[keep], d_NN[:, keep] = row_N, row_N
        d_NN[gone], d_NN[:, gone] = np.inf, np.inf
        size[keep] += size[gone]
        alive[gone] = False
        name[keep] = num + step
    return _sorted(merges, heights, num)


def _sorted(
    merges: NDArray[np.int64], heights: NDArray[np.float64], num: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Renumber merges so that heights ascend; children still come before their parents."""
    order = np.argsort(heights, kind="stable")
    new_name = np.empty(num + len(merges), np.int64)
    new_name[:num] = np.arange(num)
    new_name[num + order] = num + np.arange(len(merges))
    return new_name[merges[order]].reshape(-1, 2), heights[order]


def _top(
    merges: NDArray[np.int64], heights: NDArray[np.float64], num: int, max_tokens: int
) -> _Top:
    """Return the nodes that the first `max_tokens - 1` splits open, highest split first."""
    clusters = [num + len(merges) - 1]  # by row: the cluster's number in the tree
    row_of = {clusters[0]: 0}
    parents = [-1]
    for cluster in range(clusters[0], clusters[0] - (max_tokens - 1), -1):
        for child in merges[cluster - num]:
            row_of[int(child)] = len(clusters)
            clusters.append(int(child))
            parents.append(row_of[cluster])
    at = [0.0 if c < num else float(heights[c - num]) for c in clusters]
    return _Top(
        parents=np.array(parents, np.int32),
        heights=np.array(at, np.float32),
        members=[_leaves(merges, c, num) for c in clusters],
    )


def _leaves(merges: NDArray[np.int64], cluster: int, num: int) -> NDArray[np.int64]:
    found, open_ = [], [cluster]
    while open_:
        c = open_.pop()
        if c < num:
            found.append(c)
        else:
            open_.extend(int(x) for x in merges[c - num])
    return np.array(sorted(found))


def _shares(top: _Top, weights_N: torch.Tensor, num: int) -> torch.Tensor:
    """Return (R, N): how much of each token every node holds; rows sum to 1."""
    share_RN = torch.zeros(len(top.members), num)
    for row, members in enumerate(top.members):
        index = torch.from_numpy(members)
        share_RN[row, index] = weights_N[index] / weights_N[index].sum()
    return share_RN
