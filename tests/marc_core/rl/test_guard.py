"""Training stops with the step and the last good checkpoint, and not before it must."""

from __future__ import annotations

import pytest

from marc_core.errors import TrainingError
from marc_core.rl.config import GuardConfig
from marc_core.rl.guard import LEAST, Guard


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (0.1, float("inf"))])
def test_what_is_not_finite_stops_at_once(loss, norm):
    guard = Guard(GuardConfig(), checkpoint="runs/train/checkpoint")
    with pytest.raises(TrainingError, match=r"step 7.*not finite.*runs/train/checkpoint"):
        guard.check(7, loss, norm, 0.5)


@pytest.mark.parametrize("large", [{"norm": 150.0}, {"loss": -2.0}])
def test_an_explosion_stops_training_after_some_steps(large):
    guard = Guard(GuardConfig(exploding_steps=2))
    usual = {"loss": 0.01, "norm": 1.0, "entropy": 0.5}
    for step in range(LEAST):
        guard.check(step, **usual)
    for _ in range(2):
        guard.check(LEAST, **usual | large)
    guard.check(LEAST, **usual)  # one good step, and the count starts again
    for _ in range(2):
        guard.check(LEAST, **usual | large)
    with pytest.raises(TrainingError, match=r"step 99.*explodes.*none: start again"):
        guard.check(99, **usual | large)


def test_large_steps_at_the_start_and_small_losses_are_no_explosion():
    guard = Guard(GuardConfig(exploding_steps=1))
    for norm in (1.0, 500.0, 1e6, 1.0):
        guard.check(0, 0.1, norm, None)
    guard = Guard(GuardConfig(exploding_steps=1))
    for step in range(200):
        guard.check(step, 1e-6 if step < 100 else 0.5, 1.0, None)


def test_a_collapsed_student_stops_training():
    guard = Guard(GuardConfig(least_entropy=0.01, collapsed_steps=3), checkpoint="c")
    for entropy in (0.5, 0.001, 0.001, 0.001, 0.5, None, 0.001, 0.001, 0.001):
        guard.check(1, 0.1, 1.0, entropy)
    with pytest.raises(TrainingError, match=r"collapsed: 0.001 nats a token for 4 steps"):
        guard.check(2, 0.1, 1.0, 0.001)
    off = Guard(GuardConfig(least_entropy=0.0, collapsed_steps=1))
    for _ in range(5):
        off.check(1, 0.1, 1.0, 0.0)
