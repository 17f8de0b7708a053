"""How many actors a stage starts with, and how many it may have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray.data import ActorPoolStrategy

from marc_core.config import IndexConfig

WRITER_CPUS = 0.1
ENCODER_CPUS = 0.1
UNKNOWN_CPUS = 64
"""CPUs that pools are made for where a cluster grows and does not say how far (our choice: Ray Data
asks for nodes while its pools are busy, and the autoscaler gives what its own limits allow)."""
CPUS_PER_ENCODER = 16
"""CPUs of a cluster without GPUs for each encoder (our choice): decoders share them with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """now: actors that fit what is up; most: actors that fit what the cluster may become."""

    now: int
    most: int

    def strategy(self, num_blocks: int, *, ahead: int = 2) -> ActorPoolStrategy:
        """Return Ray Data's pool for so many blocks, each actor with `ahead` in hand.

        Where nothing can be added the pool is fixed, so that no actor with loaded models is let go.
        """
        now, most = min(self.now, num_blocks), min(self.most, num_blocks)
        return ActorPoolStrategy(
            min_size=now if now == most else 1,
            max_size=most,
            initial_size=now,
            max_tasks_in_flight_per_actor=ahead,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pools:
    """The pools of the indexing chain, and the GPUs of an encoder."""

    decoders: Pool
    encoders: Pool
    encode_gpus: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What is up in a cluster, and the most that it may grow to; infinite: it does not say."""

    cpus: float
    gpus: float
    most_cpus: float
    most_gpus: float


def capacity() -> Capacity:
    """Return the connected cluster's capacity; what an autoscaler may add counts as `most`.

    Open-source Ray does not tell a driver how far its autoscaler goes. A head without CPUs, as in
    cluster.yaml and as KubeRay advises, is taken for a cluster that grows.
    """
    import ray

    up = ray.cluster_resources()
    cpus, gpus = up.get("CPU", 0.0), up.get("GPU", 0.0)
    most = _declared()
    if not most and _head_only_leads():
        most = {"CPU": math.inf, "GPU": math.inf}
    return Capacity(
        cpus=cpus,
        gpus=gpus,
        most_cpus=max(cpus, most.get("CPU", 0.0)),
        most_gpus=max(gpus, most.get("GPU", 0.0)),
    )


def _declared() -> dict[str, float]:
    """Return the resources of a cluster with all nodes that its autoscaler may start.

    Ray has no public call for it; this is the one that Ray Data uses (pinned below 2.64).
    """
    from ray._private.state import state

    return state.get_max_resources_from_cluster_config() or {}


def _head_only_leads() -> bool:
    """Return whether the head has no CPU, so that all work is for nodes that come."""
    import ray

    heads = [n["Resources"] for n in ray.nodes() if "node:__internal_head__" in n["Resources"]]
    return bool(heads) and not any(head.get("CPU") for head in heads)


def pool_sizes(config: IndexConfig, has: Capacity) -> Pools:
    """Return the pools of an indexing job on this cluster. Raises ConfigError for a GPU that is
    asked for and cannot be had."""
    on_gpu = _encode_on_gpu(config, has)
    gpus = config.encode_gpus if on_gpu else 0.0
    most_cpus = _bounded(has.cpus, has.most_cpus)
    most_gpus = _bounded(has.gpus, has.most_gpus, UNKNOWN_CPUS / CPUS_PER_ENCODER)
    encoders = (
        _encoders(config, gpus, has.gpus, has.cpus),
        _encoders(config, gpus, most_gpus, most_cpus),
    )
    decoders = (
        _decoders(config, encoders[0], has.cpus),
        _decoders(config, encoders[1], most_cpus),
    )
    return Pools(
        decoders=Pool(now=decoders[0], most=max(decoders)),
        encoders=Pool(now=encoders[0], most=max(encoders)),
        encode_gpus=gpus,
    )


def _bounded(now: float, most: float, unknown: float = UNKNOWN_CPUS) -> float:
    """Return `most`, or a number for it where the cluster does not say."""
    return max(now, unknown) if math.isinf(most) else most


def _encode_on_gpu(config: IndexConfig, has: Capacity) -> bool:
    from marc_core.errors import ConfigError

    if config.encode_device == "gpu" and has.most_gpus < config.encode_gpus:
        raise ConfigError(
            f"encode_device=gpu needs {config.encode_gpus:g} GPU; the cluster has {has.gpus:g} and "
            f"may start {has.most_gpus:g}. Use encode_device=cpu, or add GPU nodes."
        )
    if config.encode_gpus == 0:
        return False
    known = has.gpus if math.isinf(has.most_gpus) else has.most_gpus
    return config.encode_device == "gpu" or (config.encode_device == "auto" and known > 0)


def _encoders(config: IndexConfig, each_gpus: float, gpus: float, cpus: float) -> int:
    fit = gpus / each_gpus if each_gpus else cpus / CPUS_PER_ENCODER
    return config.encode_workers or max(1, int(fit))


def _decoders(config: IndexConfig, encoders: int, cpus: float) -> int:
    """Return how many decoders fit beside encoders and writer; Ray counts their shares of CPUs."""
    room = (cpus - ENCODER_CPUS * encoders - WRITER_CPUS) / config.decode_cpus
    return config.decode_workers or max(1, math.floor(room + 1e-9))
