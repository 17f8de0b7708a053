"""Muon for hidden matrices, AdamW for the rest, stepped and saved as one optimiser.

Muon turns a matrix's momentum into the nearest orthogonal matrix (`marc_core.training.muon`). On
the vision stage it reaches after 500 steps what AdamW reaches after about 900 (docs/tiny.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from marc_core.training.muon import Muon

NOT_HIDDEN = ("embed", "heads.", "lm_head")
"""Parts of the names of matrices that read or write symbols: AdamW's, as Muon's authors advise."""


class MuonAdamW:
    """Both optimisers behind one. Rates are set once, for both (`set_rate`).

    muon: False gives hidden matrices to AdamW, too.
    """

    def __init__(
        self, module: nn.Module, *, muon_scale: float, weight_decay: float, muon: bool = True
    ) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        hidden = [p for n, p in named if muon and _is_hidden(n, p)]
        others = [p for n, p in named if not (muon and _is_hidden(n, p))]
        self.parameters = [p for _, p in named]
        self._muon_scale = muon_scale
        self._parts: list[torch.optim.Optimizer] = [_adamw(others, weight_decay)]
        if hidden:
            self._parts.append(Muon(hidden, weight_decay=weight_decay))

    def set_rate(self, rate: float) -> None:
        """Set AdamW's rate; Muon's is `muon_scale` times as high."""
        for part, scale in zip(self._parts, (1.0, self._muon_scale), strict=False):
            for group in part.param_groups:
                group["lr"] = rate * scale

    def step(self) -> None:
        """Update all parameters and drop their gradients."""
        for part in self._parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def counted(self) -> list[list[nn.Parameter]]:
        """Return each optimiser's parameters, in the order in which its state counts them."""
        return [[p for g in part.param_groups for p in g["params"]] for part in self._parts]

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and numbers only, readable with weights_only."""
        return {str(i): part.state_dict() for i, part in enumerate(self._parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for i, part in enumerate(self._parts):
            part.load_state_dict(state[str(i)])


def _is_hidden(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and not any(part in name for part in NOT_HIDDEN)


def _adamw(parameters: list[nn.Parameter], decay: float) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=True)
