"""How many actors: by what is up, and by what the cluster may become."""

from __future__ import annotations

import pytest

from marc_core.config import IndexConfig
from marc_core.errors import ConfigError
from pipelines.pools import Capacity, Pool, pool_sizes


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


@pytest.mark.parametrize(
    ("device", "has", "gpus"),
    [
        ("auto", capacity(4), 0.0),
        ("auto", capacity(4, gpus=1), 1.0),
        ("auto", capacity(4, most_gpus=2), 1.0),
        ("cpu", capacity(4, gpus=1), 0.0),
        ("gpu", capacity(4, most_gpus=1), 1.0),
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
