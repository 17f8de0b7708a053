"""Our Muon is torch's, but for the precision of its products."""

from __future__ import annotations

import copy

import pytest
import torch

from marc_core.training.muon import Muon, orthogonal
from marc_core.training.optimizer import MuonAdamW


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_updates_are_those_of_torch(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    muon = Muon([ours], weight_decay=0.1)
    reference = torch.optim.Muon(
        [theirs], lr=1e-3, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(4):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        for parameter, optimizer in ((ours, muon), (theirs, reference)):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs.detach() - start).norm()
    assert float((ours - theirs).detach().norm() / moved) < 0.03  # theirs is worked out in bfloat16


def test_matrices_of_one_shape_do_not_mix():
    torch.manual_seed(0)
    matrices = torch.randn(3, 6, 10)
    alone = torch.cat([orthogonal(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonal(matrices), alone, atol=1e-2, rtol=0)


def test_a_restored_optimizer_goes_on_as_before():
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 6)
    first = MuonAdamW(layer, muon_scale=1.5, weight_decay=0.01)

    def step(optimizer):
        layer(torch.ones(2, 6)).square().mean().backward()
        optimizer.set_rate(1e-2)
        optimizer.step()

    step(first)
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    saved = copy.deepcopy(first.state_dict())
    step(first)
    want = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    again = MuonAdamW(layer, muon_scale=1.5, weight_decay=0.01)
    again.load_state_dict(saved)
    step(again)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, want[name]), name
