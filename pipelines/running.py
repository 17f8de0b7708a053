"""What every indexing job shares: running a chain over videos until its last commit is done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
from ray.data import DataContext, Dataset

from marc_core.config import IndexConfig
from pipelines.blocks import alone, deal
from pipelines.pools import capacity, pool_sizes
from pipelines.writing import Commits, Done, start_writer

Progress = Callable[[int, int, int], None]
"""Called with (videos done, videos failed, videos to do)."""


class Counter:
    """Counts written videos, and tells how far a run is."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done, self.failed = progress, total, 0, 0
        progress(0, 0, total)

    def add(self, more: int) -> None:
        """Take note of work that was met on the way."""
        self.total += more

    def __call__(self, videos: int, failed: int) -> None:
        """Count a commit."""
        self.done, self.failed = self.done + videos, self.failed + failed
        self.progress(self.done, self.failed, self.total)


def run_chain(
    work: pa.Table,
    turn: int,
    *,
    make: Callable[..., Dataset],
    config: IndexConfig,
    embedding_dim: int,
    count: Done,
) -> dict[str, str]:
    """Run the chain that `make` returns over these videos, until its last commit is done.

    Returns why some keep what they have, by video id, where the chain redoes. In the second turn
    each video is a block of its own: one that takes its worker along takes nothing else.
    """
    pools = pool_sizes(config, capacity())
    blocks = deal(work, pools.decoders.most) if turn == 0 else alone(work)
    commits = Commits(lambda: start_writer(config, embedding_dim), config, count)
    try:
        with surviving(turn) as survive:
            dataset = make(blocks, pools=pools, survive=survive)
            commits.run(dataset.iter_internal_ref_bundles())
    finally:
        commits.stop()
    return commits.kept


@contextmanager
def surviving(turn: int) -> Iterator[dict[str, int]]:
    """Let chains that are run inside go on without the blocks that die; yield the options of their
    stages.

    A block that dies with its worker is not repeated at once, because one of its videos may have
    killed it: the next turn takes its videos one by one, and there Ray may repeat each once.
    """
    with DataContext.current(_context()), warnings.catch_warnings():
        # Ray 2.60 has no other way to bound an actor task's retries; pinned below 2.64.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        # Where every block of a turn dies, the next stage gets none: its outcome says so.
        warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
        yield {"max_restarts": -1, "max_task_retries": min(turn, 1)}


def without_credentials(config: IndexConfig) -> IndexConfig:
    """Return `config` without object store options, which may hold keys, for the record."""
    return replace(config, archive_options={}, memory=replace(config.memory, storage_options={}))


def _context() -> DataContext:
    context = DataContext.get_current().copy()
    context.max_errored_blocks = -1  # what a lost block held is found by its missing outcome
    context.target_max_block_size = 1  # every parcel goes on by itself
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0  # models stay loaded
    return context
