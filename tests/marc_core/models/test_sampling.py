"""The distribution that tokens are drawn from."""

from __future__ import annotations

import math

import pytest
import torch

from marc_core.models.sampling import draw, log_probs

LOGITS = torch.tensor([[3.0, -200.0, 3.5, -1.0], [-1.0, 4.0, 2.0, 120.0]])


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-46, 1e-38, 1e-10])
def test_a_tiny_temperature_draws_the_most_probable(temperature: float) -> None:
    found = log_probs(LOGITS, [temperature] * 2, [], [[], [0, 2]])
    assert draw(found, [temperature] * 2, [0.999, 0.0]).tolist() == [2, 2]
    assert found[0, 2] == 0
    assert not torch.isnan(found).any()


@pytest.mark.parametrize("temperature", [1e39, 1e300])
def test_a_huge_temperature_draws_any(temperature: float) -> None:
    found = log_probs(LOGITS, [temperature] * 2, [1], [[], []])
    assert found[0, 0].item() == pytest.approx(-math.log(3))
    assert found[0, 1] == -torch.inf
