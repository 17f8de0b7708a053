"""Weights spread over all workers (FSDP2): each holds its share, and whole ones for moments only.

    fully_shard(each decoder layer), fully_shard(policy)    gathered layer by layer in each pass
    whole(values): every worker gives its share -> CPU tensors for weights' sync and checkpoints
    spread(optimizer state): the way back

All workers call these together. Shares of the optimiser follow from shares of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def shard(policy: nn.Module) -> nn.Module:
    """Spread a policy's weights over the workers of the default process group, in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(policy.parameters()).device.type
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    model: Any = policy.model
    for layer in model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(policy, mesh=mesh, reshard_after_forward=False)
    return policy


def whole(value: Any) -> Any:
    """Return tensors, or nested dicts and lists of them, gathered on the CPU; all else as it is."""
    if isinstance(value, torch.Tensor):
        gathered = value.full_tensor() if hasattr(value, "full_tensor") else value
        return gathered.detach().cpu()
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(inner) for inner in value)
    return value


def put_whole(parameter: torch.Tensor, value: torch.Tensor) -> None:
    """Give a parameter, spread or not, its value from a whole tensor."""
    with torch.no_grad():
        parameter.copy_(_like(parameter, value))


def spread(state: dict[str, Any], parameters: list[torch.Tensor]) -> dict[str, Any]:
    """Return an optimiser's whole state as that of these parameters: tensors of their shape are
    spread like them.

    state: of one torch optimiser (`state_dict`), whose numbers count `parameters`.
    """
    own = {
        i: {
            name: _like(parameters[i], v) if _belongs(parameters[i], v) else v
            for name, v in values.items()
        }
        for i, values in state["state"].items()
    }
    return state | {"state": own}


def _belongs(parameter: torch.Tensor, value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim > 0


def _like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    if not hasattr(parameter, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    own: Any = parameter
    value = value.to(own.device, own.dtype)
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
