"""`marc index --estimate`: what indexing an archive will cost, before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.common import print_json, ray_session
from jobs.ray_session import running
from jobs.terminal import counted, say
from marc_core.config import IndexConfig
from marc_core.errors import ConfigError
from marc_core.text.stages import STAGES
from marc_core.types import VideoSource

if TYPE_CHECKING:
    from marc_core.estimate import Estimate
    from pipelines.pools import Capacity

START_S = 15.0
"""Seconds until the first video is decoded, and again until the first text is made, while Ray's
actors start and load their models (our choice, for two cores)."""

EstimateOption = Annotated[
    bool,
    typer.Option(
        "--estimate",
        help="Only say what it would cost: hours of video, CPU and GPU hours, time on this "
        "cluster, bytes of memory. Indexes stretches of up to 6 videos to know.",
    ),
]


def print_estimate(config: IndexConfig, address: str | None, *, as_json: bool) -> None:
    """Print what a run with this configuration would cost; nothing is written.

    Raises what `index_archive` raises before its first video, and MarcError where nothing of the
    sample can be read.
    """
    if config.only != "all":
        raise ConfigError(f"--estimate is for indexing. Got only={config.only}; leave one out.")
    from marc_core.estimate import estimate
    from pipelines.index import preview
    from pipelines.pools import pool_sizes

    work = preview(config).work
    sources = [VideoSource.from_json(text) for text in work["source"].to_pylist()]
    if not sources:
        say("Nothing to do: the memory holds every video that was found as configured.")
        return
    has = cluster(address)
    pool_sizes(config, has)  # what this cluster cannot run is refused before the sample is indexed
    known = estimate(sources, config)
    seconds = wall_s(known, config, has)
    if as_json:
        print_json(known.to_json() | {"cpus": has.cpus, "gpus": has.gpus, "wall_s": seconds})
        return
    for line in estimate_lines(known, has, seconds):
        say(line)


def cluster(address: str | None) -> Capacity:
    """Return what the cluster has that a run with `address` would join (`ray_session` says which);
    this machine's cores and GPUs, where it would start a Ray of its own."""
    import torch

    from pipelines.pools import Capacity, capacity

    if (address or os.environ.get("RAY_ADDRESS") or running() or "local") != "local":
        with ray_session(address):
            return capacity()
    cpus, gpus = float(os.cpu_count() or 1), float(torch.cuda.device_count())
    return Capacity(cpus=cpus, gpus=gpus, most_cpus=cpus, most_gpus=gpus)


def wall_s(known: Estimate, config: IndexConfig, has: Capacity) -> float:
    """Return the seconds by the clock that a run on this cluster would take."""
    from pipelines.pools import pool_sizes

    pools = pool_sizes(config, has)
    cpus = max(has.cpus, 1.0)
    return known.wall_s(
        cpus=cpus,
        decoders=min(pools.decoders.now, known.pieces),
        encoders=min(pools.encoders.now, known.pieces),
        start_s=START_S,
    )


def estimate_lines(known: Estimate, has: Capacity, seconds: float) -> Iterator[str]:
    """Yield the estimate in words."""
    hours = known.video_s / 3600
    yield f"{hours:>10,.2f} h of video in {counted(known.videos, 'video')} to index"
    if known.unreadable:
        yield f"{known.unreadable:>10.0%} of {known.opened:,} looked at cannot be opened"
    yield f"{known.cpu_s / 3600:>10,.2f} CPU hours:"
    for name, stage_s, remark in stage_lines(known):
        yield f"{stage_s / 3600:>18,.2f} {name}{remark}"
    if known.gpu_s is not None:
        yield f"{known.gpu_s / 3600:>10,.2f} GPU hours"
    elif has.gpus:
        yield "           encoders were timed on a CPU; the cluster's GPUs are faster by far"
    cpus, gpus = counted(round(has.cpus), "CPU"), counted(round(has.gpus), "GPU")
    yield f"{_duration(seconds):>10} on this cluster ({cpus}, {gpus})"
    yield f"{_size(known.memory_bytes):>10} of memory"
    for line in known.left_out:
        yield f"           {line}"
    sample = f"a stretch of {counted(known.timed, 'video')}"
    yield f"           judged by {sample}, on this machine as busy as it is now"


def stage_lines(known: Estimate) -> Iterator[tuple[str, float, str]]:
    """Yield name, seconds of one core, and how to do without, of every stage that runs on CPUs."""
    yield "decode", known.decode_s, ""
    yield "shots", known.shots_s, ""
    if known.gpu_s is None:
        yield "encode", known.encode_s, ""
    for kind, seconds in known.texts_s.items():
        yield kind, seconds, f" (text.{STAGES[kind].setting}=off does without)"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _size(num_bytes: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit in "BKB" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
