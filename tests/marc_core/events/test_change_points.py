import itertools

import numpy as np
import pytest
import ruptures

from benchmarks.joined import Truth, score
from marc_core.config import EventConfig
from marc_core.events import change_points
from marc_core.events.change_points import noise_variance, optimal_cuts, unit_centred

CONFIG = EventConfig()


def _steps(lengths, *, D=16, noise=0.1, seed=0):
    """One random direction per length, plus white noise."""
    rng = np.random.default_rng(seed)
    means = np.linalg.qr(rng.normal(size=(D, D)))[0][: len(lengths)]
    x = np.repeat(means, lengths, axis=0)
    return x + noise * rng.normal(size=x.shape) / np.sqrt(D)


def _objective(x, cuts, penalty):
    edges = [0, *cuts, len(x)]
    parts = [x[a:b] for a, b in itertools.pairwise(edges)]
    return sum(((p - p.mean(axis=0)) ** 2).sum() for p in parts) + penalty * len(cuts)


def _brute_force(x, penalty, min_len):
    best = None
    for n in range(len(x) // min_len):
        for cuts in itertools.combinations(range(1, len(x)), n):
            edges = [0, *cuts, len(x)]
            if min(np.diff(edges)) < min_len:
                continue
            value = _objective(x, cuts, penalty)
            if best is None or value < best[0] - 1e-12:
                best = value, list(cuts)
    return best[1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("penalty", [0.02, 0.2, 2.0])
def test_small_sequences_equal_brute_force(seed, penalty):
    x = unit_centred(np.random.default_rng(seed).normal(size=(13, 3)))
    expected = _brute_force(x, penalty, 2)
    found = optimal_cuts(x, penalty, min_len=2, max_len=13)
    assert _objective(x, found, penalty) == pytest.approx(_objective(x, expected, penalty))
    assert found == expected


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_longer_sequences_equal_ruptures(noise):
    x = unit_centred(_steps([50, 90, 20, 40, 130, 70], noise=noise))
    penalty = 3 * noise_variance(x)
    oracle = ruptures.KernelCPD(kernel="linear", min_size=4).fit(x).predict(pen=penalty)[:-1]
    assert optimal_cuts(x, penalty, min_len=4, max_len=400) == oracle


def test_changes_are_found_where_they_are():
    assert change_points(_steps([30, 50, 12, 40]), np.arange(132.0), CONFIG) == [30, 80, 92]


def test_one_scene_longer_than_the_search_window_is_not_cut():
    assert change_points(_steps([1000]), np.arange(1000.0), CONFIG) == []


def test_a_slow_drift_does_not_enter_the_noise():
    t = np.linspace(0, 1, 2000)[:, None]
    rng = np.random.default_rng(0)
    x = np.hstack([np.cos(t), np.sin(t)]) @ np.eye(2, 32)
    noise = 0.1 * rng.normal(size=x.shape) / np.sqrt(32)
    assert noise_variance(x + noise) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.7])
def test_noise_that_remembers_counts_for_as_much_as_its_means_vary(rho):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 32)) / np.sqrt(32)
    for t in range(1, len(x)):
        x[t] = rho * x[t - 1] + np.sqrt(1 - rho**2) * x[t]
    assert noise_variance(x) == pytest.approx((1 + rho) / (1 - rho), rel=0.15)


@pytest.mark.parametrize("T", [0, 1, 2, 7])
def test_too_short_to_cut(T):
    assert change_points(np.eye(8)[:T], np.arange(float(T)), CONFIG) == []


def test_constant_embeddings_have_no_change():
    assert change_points(np.ones((50, 4)), np.arange(50.0), CONFIG) == []


def test_segments_are_at_least_four_seconds_long_at_any_rate():
    x = _steps([5, 5, 5, 5], noise=0.01)
    assert change_points(x, np.arange(20.0), CONFIG) == [5, 10, 15]
    cuts = change_points(x, np.arange(20.0) / 2, CONFIG)
    assert (np.diff([0, *cuts, 20]) >= 8).all()


def test_many_samples_keep_their_digits():
    """Float32 prefix sums once made ten times the boundaries."""
    x = _steps([400] * 10, D=64, noise=0.3).astype(np.float32)
    assert change_points(x, np.arange(4000.0), CONFIG) == list(range(400, 4000, 400))


def test_f1_by_hand():
    """Truth: cut at 10, dissolve 30-39, cut at 60. Found: 11 (hit), 12 (extra), 35 (hit), 80."""
    truths = [
        Truth(kind="cut", first=10, end=10),
        Truth(kind="dissolve", first=30, end=40),
        Truth(kind="cut", first=60, end=60),
    ]
    result = score([11, 12, 35, 80], truths)
    assert result["f1"] == pytest.approx(2 * 2 / (3 + 4), abs=1e-4)
    assert result["precision"] == 0.5
    assert result["false_alarms"] == 2
    assert result["found"] == {"cut": "1/2", "dissolve": "1/1"}
