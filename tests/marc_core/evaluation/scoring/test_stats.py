"""Intervals and tests against closed forms and brute force."""

import math

import numpy as np
import pytest

from marc_core.evaluation.scoring.stats import bootstrap, mcnemar, paired


def test_interval_matches_the_binomial_standard_error() -> None:
    scores = [1.0] * 60 + [0.0] * 40
    found = bootstrap(scores, resamples=4000)
    error = math.sqrt(0.6 * 0.4 / 100)
    assert found.mean == pytest.approx(0.6)
    assert found.num == 100
    assert found.low == pytest.approx(0.6 - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(0.6 + 1.96 * error, abs=0.02)


def test_the_seed_decides_the_draws() -> None:
    scores = np.random.default_rng(0).random(50).tolist()
    assert bootstrap(scores, seed=3) == bootstrap(scores, seed=3)
    assert bootstrap(scores, seed=3) != bootstrap(scores, seed=4)


def test_constant_scores_have_no_width() -> None:
    found = bootstrap([1.0, 1.0, 1.0])
    assert (found.low, found.high) == (1.0, 1.0)


def test_clusters_widen_the_interval() -> None:
    # ten videos with ten equal answers each: only ten independent draws
    scores = [float(v % 2) for v in range(10) for _ in range(10)]
    videos = [str(v) for v in range(10) for _ in range(10)]
    by_sample, by_video = bootstrap(scores), bootstrap(scores, clusters_N=videos)
    assert by_video.high - by_video.low > 2.5 * (by_sample.high - by_sample.low)
    assert by_video.mean == by_sample.mean == 0.5


def test_mean_of_tasks_and_their_weights() -> None:
    scores, tasks = [1.0, 0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "a", "b"]
    assert bootstrap(scores, tasks_N=tasks).mean == pytest.approx((0.25 + 1) / 2)
    weighted = bootstrap(scores, tasks_N=tasks, task_weights={"a": 1.0, "b": 3.0})
    assert weighted.mean == pytest.approx((0.25 + 3) / 4)


def test_one_cluster_has_no_width() -> None:
    found = bootstrap([1.0, 0.0], clusters_N=["a", "a"])
    assert (found.mean, found.low, found.high, found.num) == (0.5, 0.5, 0.5, 2)


def test_the_interval_is_that_of_our_own_draws_within_their_error() -> None:
    """Ten clusters, two weighted tasks, against this project's own earlier multinomial draws."""
    scores = [float((7 * i) % 3 == 0 or i % 10 < 3) for i in range(60)]
    tasks = ["a" if i % 4 else "b" for i in range(60)]
    videos = [str(i % 10) for i in range(60)]
    found = bootstrap(
        scores, tasks_N=tasks, clusters_N=videos, task_weights={"a": 1, "b": 3}, resamples=20_000
    )
    assert found.mean == pytest.approx(0.5777777777777777)
    assert found.low == pytest.approx(1 / 3, abs=0.01)
    assert found.high == pytest.approx(0.8627, abs=0.01)


def test_no_scores_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        bootstrap([])


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (3, 9), (10, 10), (2, 30), (400, 450)])
def test_mcnemar_is_the_exact_binomial(a: int, b: int) -> None:
    n = a + b
    exact = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(a, b) + 1)) / 2**n)
    assert mcnemar(a, b) == pytest.approx(exact)


def test_paired_difference_uses_the_pairs() -> None:
    rng = np.random.default_rng(0)
    a = (rng.random(200) < 0.5).astype(float)
    b = a.copy()
    b[np.flatnonzero(a == 0)[:20]] = 1.0
    found = paired(a.tolist(), b.tolist())
    assert found.difference == pytest.approx(0.1)
    assert (found.only_a, found.only_b, found.num) == (0, 20, 200)
    assert found.low > 0.05
    assert found.p_mcnemar == pytest.approx(2 / 2**20)
    assert found.p_bootstrap < 0.01


def test_paired_of_a_system_with_itself() -> None:
    found = paired([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (found.difference, found.p_mcnemar, found.p_bootstrap) == (0.0, 1.0, 1.0)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        paired([1.0], [1.0, 0.0])
