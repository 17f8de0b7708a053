"""The merge as a linear plan: which temporal groups are averaged into which.

The paper merges H = (Ha + Hb) / 2 for the most similar adjacent pair, again and again, where
similarity is the mean over patches of the cosine of aligned patches (section 3.2). Every merged
group is a weighted mean of source groups, so the whole procedure is one row-stochastic matrix W
(K, T). Its rows are found from inner products alone: one batched product on the device, then a
loop over small arrays on the CPU without a device synchronisation per step. W @ x is
differentiable, and the same W merges timestamps and deepstack features.

Letters: T source groups, K merged groups, P tokens (patches) of a group, D channels.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

MergeMode = Literal["plain", "weighted", "none"]

_EPS = 1e-12


def similarity_gram(x_TPD: torch.Tensor) -> NDArray[np.float64]:
    """Return (P, T, T) inner products of aligned patches of all groups, on the CPU.

    One batched float32 product on x's own device, also under autocast, and one copy; no gradient.
    """
    with torch.no_grad(), torch.autocast(x_TPD.device.type, enabled=False):
        x_PTD = x_TPD.detach().float().transpose(0, 1)
        gram_PTT = torch.bmm(x_PTD, x_PTD.transpose(1, 2))
    return gram_PTT.cpu().numpy().astype(np.float64)


def merge_plan(
    x_TPD: torch.Tensor,
    target: int,
    *,
    window: int = 0,
    mode: MergeMode = "plain",
    counts_T: torch.Tensor | None = None,
    merge_above: float | None = None,
) -> torch.Tensor:
    """Return W (K, T) float32 on the CPU, rows summing to 1, K = max(1, min(target, T)).

    x_TPD: features of T consecutive groups. target: groups to keep.
    window: pairs that lie in the same run of `window` consecutive source groups are merged first;
    only when none is left and the target is not reached may pairs across runs merge. 0 means one
    run (paper: short-term memory window m; the fixed runs and the last resort are our reading).
    mode: "plain" averages the two (paper); "weighted" by the source groups that each holds, which
    starts at `counts_T` (T,) or at 1 each; "none" is the identity whatever the target.
    merge_above: go on below the target while the most similar pair is at least this similar
    (adaptive budget); the target is then a ceiling. Ties go to the earlier pair.
    """
    num_groups = x_TPD.shape[0]
    if mode == "none" or (target >= num_groups and merge_above is None):
        return torch.eye(num_groups)
    counts = np.ones(num_groups) if counts_T is None else counts_T.double().cpu().numpy()
    plan = _merge_gram(
        similarity_gram(x_TPD),
        max(1, target),
        window or num_groups,
        mode == "weighted",
        counts,
        math.inf if merge_above is None else merge_above,
    )
    return torch.from_numpy(plan).float()


def apply_plan(plan_KT: torch.Tensor, x: torch.Tensor, *, dim: int = 0) -> torch.Tensor:
    """Return x with its group axis `dim` merged from T to K by the plan, in x's own dtype.

    The sum runs in float32. A square plan is the identity (merging only ever shortens) and
    returns x itself, bit for bit.
    """
    if plan_KT.shape[0] == plan_KT.shape[1]:
        return x
    plan_KT = plan_KT.to(device=x.device, dtype=torch.float32)
    merged: torch.Tensor = torch.tensordot(plan_KT, x.float(), dims=([1], [dim]))
    return merged.movedim(0, dim).to(x.dtype)


def _merge_gram(
    gram_PTT: NDArray[np.float64],
    target: int,
    window: int,
    weighted: bool,
    counts: NDArray[np.float64],
    merge_above: float = math.inf,
) -> NDArray[np.float64]:
    """Merge adjacent groups until `target` are left and none is alike; gram_PTT is overwritten.

    Row and column a of the Gram array stand for the merged group that begins at source group a;
    merging is linear, so they are combined with the same weights as the features would be.
    """
    num_groups = gram_PTT.shape[1]
    plan, counts = np.eye(num_groups), counts.copy()
    alive = list(range(num_groups))
    similarity = [_cosine(gram_PTT, a, a + 1) for a in range(num_groups - 1)]
    run_end = [min(num_groups, (a // window + 1) * window) for a in range(num_groups)]
    while len(alive) > target or max(similarity, default=-math.inf) >= merge_above:
        inside = [i for i in range(len(alive) - 1) if alive[i + 1] < run_end[alive[i]]]
        i = max(inside or range(len(alive) - 1), key=lambda j: (similarity[j], -j))
        a, b = alive[i], alive[i + 1]
        share = counts[a] / (counts[a] + counts[b]) if weighted else 0.5
        plan[a] = share * plan[a] + (1 - share) * plan[b]
        gram_PTT[:, a] = share * gram_PTT[:, a] + (1 - share) * gram_PTT[:, b]
        gram_PTT[:, :, a] = share * gram_PTT[:, :, a] + (1 - share) * gram_PTT[:, :, b]
        counts[a] += counts[b]
        run_end[a] = run_end[b]
        del alive[i + 1], similarity[i]
        for j in (i - 1, i):
            if 0 <= j < len(alive) - 1:
                similarity[j] = _cosine(gram_PTT, alive[j], alive[j + 1])
    return plan[alive]


def _cosine(gram_PTT: NDArray[np.float64], a: int, b: int) -> float:
    """Return the mean over patches of cos(a, b), from inner products."""
    norms = np.sqrt(gram_PTT[:, a, a] * gram_PTT[:, b, b])
    return float(np.mean(gram_PTT[:, a, b] / np.maximum(norms, _EPS)))
