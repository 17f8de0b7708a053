"""Change points in a sequence of embeddings: where a shot without cuts turns to something else.

Kernel temporal segmentation (Potapov et al., ECCV 2014) with a linear kernel on unit vectors, in
its penalised form (the objective of PELT, Killick et al. 2012): choose the cuts that minimise

    sum over segments of  sum_t |x_t - mean of its segment|^2   +   penalty * number of cuts

by dynamic programming over the last cut. Honest differences: a segment is at least `MIN_LEN_S`
and at most `MAX_LEN` samples long, which makes the cost O(T * MAX_LEN); a cut that only the
upper bound forced is removed afterwards. The penalty is `config.change_point_penalty` times the
noise variance, which second differences measure whatever slow drift there is.

Shape letters: T samples, D channels, B samples of a block.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from marc_core.config import EventConfig

MIN_LEN_S = 4.0
"""Shortest segment (our choice: below it, noise at 1 fps makes cuts)."""
MAX_LEN = 300
"""Longest segment in samples that the search considers (our choice: five minutes at 1 fps)."""
_BLOCK = 128
_NOISE_FLOOR = 1e-6
_MIN_FOR_NOISE, _NOISE_SAMPLES = 5, 6000
_RHOS = np.linspace(0.0, 0.8, 81)

Floats = NDArray[np.float64]


def change_points(
    embeddings_TD: NDArray[np.floating], times_s: Floats, config: EventConfig
) -> list[int]:
    """Return the samples at which a new segment starts, ascending, without 0.

    embeddings_TD: (T, D) of any length but zero; they are brought to unit length here.
    times_s: (T,) strictly increasing.
    """
    T = len(embeddings_TD)
    spacing_s = float(np.median(np.diff(times_s))) if T > 1 else 1.0
    min_len = max(2, math.ceil(MIN_LEN_S / spacing_s - 1e-6))
    if 2 * min_len > T:
        return []
    x_TD = unit_centred(embeddings_TD)
    penalty = config.change_point_penalty * noise_variance(x_TD)
    return optimal_cuts(x_TD, penalty, min_len=min_len, max_len=max(MAX_LEN, 2 * min_len))


def unit_centred(embeddings_TD: NDArray[np.floating]) -> Floats:
    """Return float64 unit vectors minus their mean: the prefix sums then stay small."""
    x_TD = np.asarray(embeddings_TD, np.float64)
    x_TD = x_TD / np.maximum(np.linalg.norm(x_TD, axis=1, keepdims=True), 1e-12)
    centred: Floats = x_TD - x_TD.mean(axis=0)
    return centred


def noise_variance(x_TD: Floats) -> float:
    """Return the long-run variance (summed over channels) of the noise on a drifting sequence.

    Noise is taken as first-order autoregressive: variance V, correlation rho at one sample. Its
    second differences x[t-k] - 2 x[t] + x[t+k] have variance V (6 - 8 rho^k + 2 rho^2k), which
    at k = 1 and 2 gives V and rho; drift hardly enters, and medians keep the changes out. A mean
    over n samples then has variance V (1 + rho) / (1 - rho) / n, whose numerator is returned:
    for white noise V. Without this, moving pictures are cut at every sway (our choice).
    """
    if len(x_TD) < _MIN_FOR_NOISE:
        return _NOISE_FLOOR
    near, far = (_second_difference(x_TD, k) for k in (1, 2))
    rho = float(np.interp(far / max(near, _NOISE_FLOOR), _ratio_of(_RHOS), _RHOS))
    variance = near / (2 * (1 - rho) * (3 - rho))
    return max(variance * (1 + rho) / (1 - rho), _NOISE_FLOOR)


def _second_difference(x_TD: Floats, k: int) -> float:
    """Return the median of |x[t-k] - 2 x[t] + x[t+k]|^2 over at most `_NOISE_SAMPLES` times."""
    middle = np.arange(k, len(x_TD) - k)
    middle = middle[:: 1 + len(middle) // _NOISE_SAMPLES]
    second = x_TD[middle - k] - 2 * x_TD[middle] + x_TD[middle + k]
    return float(np.median(np.einsum("td,td->t", second, second)))


def _ratio_of(rho: Floats) -> Floats:
    """Return the ratio of second-difference variances at 2 and 1 samples, rising from 1."""
    return (1 + rho) * (3 - rho**2) / (3 - rho)


def optimal_cuts(x_TD: Floats, penalty: float, *, min_len: int, max_len: int) -> list[int]:
    """Return the starts of the segments that minimise cost + penalty * cuts.

    Exact for segments of min_len to max_len samples (min_len <= max_len / 2, else lengths that
    cannot be put together stay uncut); then cuts that only max_len forced are removed.
    """
    T = len(x_TD)
    sums = np.concatenate([np.zeros((1, x_TD.shape[1])), np.cumsum(x_TD, axis=0)])
    best = np.full(T + 1, np.inf)
    best[0] = -penalty
    previous = np.zeros(T + 1, np.int64)
    for block in range(min_len, T + 1, _BLOCK):
        end = min(block + _BLOCK, T + 1)
        low = max(0, block - max_len)
        gain = _gains(sums, low, block, end)
        for j in range(block, end):
            i0, i1 = max(0, j - max_len), j - min_len + 1
            total = best[i0:i1] - gain[j - block, i0 - low : i1 - low]
            k = int(total.argmin())
            best[j], previous[j] = total[k] + penalty, i0 + k
    cuts: list[int] = []
    j = int(previous[T])
    while j > 0:
        cuts.append(j)
        j = int(previous[j])
    return _without_forced(sums, cuts[::-1], penalty)


def _gains(sums: Floats, low: int, block: int, end: int) -> Floats:
    """Return |S_j - S_i|^2 / (j - i) for j in [block, end), i in [low, end).

    The cost of segment [i, j) is a constant of the data minus this. Sums are taken from S_low
    on, so that differences of large numbers do not lose digits.
    """
    local = sums[low:end] - sums[low]
    later = local[block - low :]
    squares = np.einsum("td,td->t", local, local)
    distance = squares[block - low :, None] + squares - 2 * (later @ local.T)
    length = np.arange(block, end)[:, None] - np.arange(low, end)
    gains: Floats = distance / np.maximum(length, 1)
    return gains


def _without_forced(sums: Floats, cuts: list[int], penalty: float) -> list[int]:
    """Remove, weakest first, every cut that saves less than the penalty."""
    T = len(sums) - 1
    cuts = list(cuts)
    while cuts:
        edges = np.array([0, *cuts, T])
        left, middle, right = sums[edges[:-2]], sums[edges[1:-1]], sums[edges[2:]]
        a, b = np.diff(edges)[:-1], np.diff(edges)[1:]
        apart = (middle - left) / a[:, None] - (right - middle) / b[:, None]
        saved = a * b / (a + b) * np.einsum("td,td->t", apart, apart)
        weakest = int(saved.argmin())
        if saved[weakest] >= penalty:
            break
        del cuts[weakest]
    return cuts
