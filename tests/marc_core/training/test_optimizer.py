"""Muon moves hidden matrices and nothing else; both optimisers save and restore as one."""

from __future__ import annotations

import torch
from torch import nn

from marc_core.training.optimizer import MuonAdamW

RATES = {"muon_scale": 5.0, "weight_decay": 0.01}


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(7, 6)
        self.hidden = nn.Linear(6, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.heads = nn.ModuleDict({"out": nn.Linear(4, 5)})

    def forward(self, ids):
        return self.heads["out"](self.frozen(self.hidden(self.embed_tokens(ids)))).square().sum()


def _step(model, optimizer):
    optimizer.set_rate(1e-2)
    model(torch.arange(7)).backward()
    optimizer.step()


def test_every_trained_parameter_has_one_optimiser():
    model = _Model()
    optimizer = MuonAdamW(model, **RATES)
    adamw, muon = (
        [p for group in part.param_groups for p in group["params"]] for part in optimizer._parts
    )
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert [id(p) for p in muon] == [id(model.hidden.weight)]
    assert {id(p) for p in adamw} == trained - {id(model.hidden.weight)}
    assert len(adamw) + len(muon) == len(trained)


def test_muon_moves_all_directions_of_a_matrix_about_equally_far():
    model = _Model()
    before = model.hidden.weight.detach().clone()
    optimizer = MuonAdamW(model, weight_decay=0.0, muon_scale=5.0)
    optimizer.set_rate(1e-2)
    model(torch.arange(7)).backward()
    model.hidden.weight.grad = torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0])) @ torch.eye(4, 6)
    optimizer.step()
    way = torch.linalg.svdvals(model.hidden.weight.detach() - before)
    assert way.max() / way.min() < 2.0  # five Newton-Schulz steps: 0.7 - 1.2 of one
    assert 0.5 < way.mean() / (5e-2 * 0.2 * 6**0.5) < 1.5  # rate x RMS matching of torch
    assert model.hidden.weight.grad is None


def test_a_restored_optimiser_goes_on_as_if_nothing_had_happened():
    whole, parts = _Model(), _Model()
    first, second = MuonAdamW(whole, **RATES), MuonAdamW(parts, **RATES)
    for _ in range(2):
        _step(whole, first)
    _step(parts, second)
    again = MuonAdamW(parts, **RATES)
    again.load_state_dict(second.state_dict())
    _step(parts, again)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_without_hidden_matrices_trains():
    model = nn.Sequential(nn.Embedding(3, 2))
    model[0].requires_grad_(True)
    optimizer = MuonAdamW(nn.ModuleDict({"embed": model}), **RATES)
    before = model[0].weight.detach().clone()
    optimizer.set_rate(1e-2)
    model(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model[0].weight)
