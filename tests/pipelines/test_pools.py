"""How many actors: by what is up, and by what the cluster may become."""

from __future__ import annotations

import pytest

from marc_core.config import IndexConfig
from marc_core.errors import ConfigError
from pipelines.pools import Capacity, Pool, pool_sizes
from pipelines.pools import capacity as pools_capacity


def capacity(cpus: float, gpus: float = 0, most_cpus: float = 0, most_gpus: float = 0) -> Capacity:
    return Capacity(
        cpus=cpus, gpus=gpus, most_cpus=max(cpus, most_cpus), most_gpus=max(gpus, most_gpus)
    )


def test_pools_leave_room_for_encoder_and_writer() -> None:
    pools = pool_sizes(IndexConfig(), capacity(2))
    assert (pools.decoders, pools.encoders) == (Pool(now=2, most=2), Pool(now=1, most=1))
    assert pools.decoders.now * IndexConfig().decode_cpus + 0.1 + 0.1 <= 2


def test_the_documented_cluster_grows_from_nothing() -> None:
    """A head without CPUs; up to 32 nodes of 16 CPUs and 8 of 8 CPUs with a GPU."""
    pools = pool_sizes(IndexConfig(), capacity(0, most_cpus=32 * 16 + 8 * 8, most_gpus=8))
    assert pools.decoders == Pool(now=1, most=718)
    assert pools.encoders == Pool(now=1, most=8)
    assert pools.encode_gpus == 1.0


INF = float("inf")


def test_a_cluster_that_does_not_say_how_far_it_grows_may_grow() -> None:
    pools = pool_sizes(IndexConfig(), capacity(0, most_cpus=INF, most_gpus=INF))
    assert (pools.decoders.now, pools.decoders.most) == (1, 79)
    assert (pools.encoders, pools.encode_gpus) == (Pool(now=1, most=4), 0.0)
    large = pool_sizes(IndexConfig(), capacity(640, most_cpus=INF, most_gpus=INF))
    assert large.decoders.now == large.decoders.most


@pytest.mark.parametrize(
    ("head_cpus", "grows"), [(0, True), (2, False)], ids=["head leads only", "head works, too"]
)
def test_a_head_without_cpus_is_a_cluster_that_grows(
    monkeypatch: pytest.MonkeyPatch, head_cpus: float, grows: bool
) -> None:
    head = {"node:__internal_head__": 1.0} | ({"CPU": head_cpus} if head_cpus else {})
    monkeypatch.setattr("ray.nodes", lambda: [{"Resources": head}, {"Resources": {"CPU": 4.0}}])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0 + head_cpus})
    monkeypatch.setattr("pipelines.pools._declared", dict)
    assert (pools_capacity().most_cpus == INF) == grows


@pytest.mark.parametrize(
    ("device", "has", "gpus"),
    [
        ("auto", capacity(4), 0.0),
        ("auto", capacity(4, gpus=1), 1.0),
        ("auto", capacity(4, most_gpus=2), 1.0),
        ("cpu", capacity(4, gpus=1), 0.0),
        ("gpu", capacity(4, most_gpus=1), 1.0),
        ("gpu", capacity(0, most_cpus=INF, most_gpus=INF), 1.0),
        ("auto", capacity(4, gpus=1, most_cpus=INF, most_gpus=INF), 1.0),
    ],
)
def test_whether_encoders_ask_for_a_gpu_is_configured(
    device: str, has: Capacity, gpus: float
) -> None:
    assert pool_sizes(IndexConfig(encode_device=device), has).encode_gpus == gpus


def test_a_gpu_that_cannot_be_had_is_said_before_the_job_starts() -> None:
    with pytest.raises(ConfigError, match="encode_device=gpu needs 1 GPU"):
        pool_sizes(IndexConfig(encode_device="gpu"), capacity(4))


def test_configured_numbers_win() -> None:
    config = IndexConfig(decode_workers=3, encode_workers=2)
    pools = pool_sizes(config, capacity(64, most_cpus=640))
    assert (pools.decoders, pools.encoders) == (Pool(now=3, most=3), Pool(now=2, most=2))


def test_a_pool_that_can_grow_starts_with_what_fits_and_may_shrink_to_one() -> None:
    growing = Pool(now=2, most=10).strategy(100)
    assert (growing.min_size, growing.initial_size, growing.max_size) == (1, 2, 10)
    fixed = Pool(now=2, most=2).strategy(100)
    assert (fixed.min_size, fixed.max_size) == (2, 2)
    few = Pool(now=2, most=10).strategy(1)
    assert (few.min_size, few.max_size) == (1, 1)
