"""A worker alone sums to itself."""

from __future__ import annotations

import torch

from marc_core.training.peers import Peers, ProcessPeers


def test_alone():
    peers = Peers()
    assert peers.size == 1
    assert peers.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert peers.most(3) == 3


def test_a_process_group_of_one(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        peers = ProcessPeers(torch.device("cpu"))
        values = torch.tensor([1.0, 2.0], dtype=torch.float64)
        assert torch.equal(peers.sum(values), values)
        assert (peers.size, peers.most(3)) == (1, 3)
    finally:
        torch.distributed.destroy_process_group()
