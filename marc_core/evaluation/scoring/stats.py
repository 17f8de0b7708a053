"""Confidence intervals and paired tests by scipy, seeded, no approximations hidden.

Shape letters: N samples, V clusters (videos, or single samples), T tasks, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BATCH_VALUES = 2**22
"""Values of drawn clusters held at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its bootstrap percentile interval, and how many samples it rests on."""

    mean: float
    low: float
    high: float
    num: int


def bootstrap(
    scores_N: Sequence[float],
    *,
    tasks_N: Sequence[str] | None = None,
    task_weights: Mapping[str, float] | None = None,
    clusters_N: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean and its percentile bootstrap interval.

    tasks_N: if given, the statistic is the mean of the tasks' means (VSI-Bench), weighted by
        `task_weights` where given, else equally; a task that a draw leaves out does not count.
    clusters_N: if given, whole clusters (videos) are drawn instead of samples: questions about
        one video are not independent, and such intervals are wider.
    Raises ValueError without scores.
    """
    if not len(scores_N):
        raise ValueError("A mean needs at least one score. Got none.")
    sums_VT, counts_VT = _table(scores_N, tasks_N, clusters_N)
    names = np.unique(tasks_N) if tasks_N is not None else [""]
    weights_T = np.array([(task_weights or {}).get(str(t), 1.0) for t in names])
    point = _task_mean(sums_VT.sum(0)[None], counts_VT.sum(0)[None], weights_T)
    draws_B = _draw(sums_VT, counts_VT, weights_T, resamples, seed)
    low, high = np.quantile(draws_B, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(point[0]), low=float(low), high=float(high), num=len(scores_N))


def _table(
    scores_N: Sequence[float], tasks_N: Sequence[str] | None, clusters_N: Sequence[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    num = len(scores_N)
    _, task = np.unique(tasks_N if tasks_N is not None else [""] * num, return_inverse=True)
    cluster = np.arange(num)
    if clusters_N is not None:
        _, cluster = np.unique(clusters_N, return_inverse=True)
    shape = (int(cluster.max()) + 1, int(task.max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (cluster, task), np.asarray(scores_N, dtype=np.float64))
    np.add.at(counts, (cluster, task), 1.0)
    return sums, counts


def _draw(
    sums_VT: NDArray[np.float64],
    counts_VT: NDArray[np.float64],
    weights_T: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return the statistic of `resamples` draws of V clusters with replacement."""
    from scipy.stats import bootstrap as scipy_bootstrap

    num, num_tasks = sums_VT.shape
    if num == 1:  # every draw is the one cluster, which scipy refuses
        return np.repeat(_task_mean(sums_VT, counts_VT, weights_T), resamples)

    def statistic(drawn_BV: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        """Reduce the last axis; scipy passes one draw (V,) or many (B, V)."""
        sums, counts = sums_VT[drawn_BV].sum(-2), counts_VT[drawn_BV].sum(-2)
        return _task_mean(sums, counts, weights_T)

    found = scipy_bootstrap(
        (np.arange(num),),
        statistic,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // (num * num_tasks)),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return np.asarray(found.bootstrap_distribution)


def _task_mean(
    sums_BT: NDArray[np.float64], counts_BT: NDArray[np.float64], weights_T: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted mean over the tasks that were drawn at least once."""
    there = counts_BT > 0
    means = np.divide(sums_BT, counts_BT, out=np.zeros_like(sums_BT), where=there)
    return np.asarray((means * weights_T).sum(-1) / (there * weights_T).sum(-1))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedResult:
    """Two systems on the same samples: difference b - a, its interval, and p-values.

    only_a, only_b: samples that only one of the two answers right (score above 0.5).
    p_mcnemar: exact two-sided McNemar test on these; 1.0 where the two never differ.
    p_bootstrap: two-sided share of bootstrap differences beyond zero.
    """

    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p_mcnemar: float
    p_bootstrap: float
    num: int


def paired(
    a_N: Sequence[float],
    b_N: Sequence[float],
    *,
    clusters_N: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedResult:
    """Compare two lists of scores of the same samples, in the same order."""
    if len(a_N) != len(b_N) or not len(a_N):
        raise ValueError(
            f"A paired comparison needs two equally long, non-empty lists. "
            f"Got {len(a_N)} and {len(b_N)} scores."
        )
    a, b = np.asarray(a_N, dtype=np.float64), np.asarray(b_N, dtype=np.float64)
    sums_VT, counts_VT = _table((b - a).tolist(), None, clusters_N)
    draws = _draw(sums_VT, counts_VT, np.ones(1), resamples, seed)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    only_a = int(((a > 0.5) & (b <= 0.5)).sum())
    only_b = int(((b > 0.5) & (a <= 0.5)).sum())
    tail = min(float((draws <= 0).mean()), float((draws >= 0).mean()))
    return PairedResult(
        difference=float((b - a).mean()),
        low=float(low),
        high=float(high),
        only_a=only_a,
        only_b=only_b,
        p_mcnemar=mcnemar(only_a, only_b),
        p_bootstrap=min(1.0, 2 * tail),
        num=len(a),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided McNemar p-value: a fair coin thrown only_a + only_b times."""
    from scipy.stats import binomtest

    total = only_a + only_b
    return float(binomtest(only_a, total).pvalue) if total else 1.0
