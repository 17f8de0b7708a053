"""What workers of one training tell one another: sums, and the largest of a number.

    every worker's share of a batch --sum--> the whole batch's counts --> each worker's loss

Gradients are averaged by the wrapper around the model (DDP, FSDP); these are for what must be
known of the whole batch before: how many answers and tokens a mean runs over, the spread of all
rewards, metrics.
"""

from __future__ import annotations

import torch


class Peers:
    """One worker alone, and the interface of several."""

    size = 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers of a small CPU tensor; called by all at once."""
        return values

    def most(self, value: int) -> int:
        """Return the largest value of all workers; called by all at once."""
        return value


class ProcessPeers(Peers):
    """The workers of torch's default process group.

    device: where collectives take place (a GPU for NCCL).
    """

    def __init__(self, device: torch.device) -> None:
        self.size, self.device = torch.distributed.get_world_size(), device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        shared = values.to(self.device, copy=True)
        torch.distributed.all_reduce(shared)
        return shared.cpu()

    def most(self, value: int) -> int:
        shared = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return int(shared)
