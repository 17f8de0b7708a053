"""How work is dealt out: blocks of about equal work, the largest first.

A block is what an actor takes at once. Large videos are alone in theirs and go first, so that none
begins when all others are done; small files share a block, because each block costs the driver
milliseconds, and there are always several blocks an actor.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.parcels import wrap

MOST_VIDEOS = 64
"""Videos of a block at most (our choice): what a worker that dies makes others do again."""
MOST_BYTES = 256 * 1024**2
"""Work of a block at most, in bytes of video (our choice); a larger file is alone."""
BLOCKS_PER_ACTOR = 4
"""Blocks an actor at least (our choice), so that all of them end at about the same time."""


def deal(work: pa.Table, actors: int) -> list[pa.Table]:
    """Return blocks (tables of one parcel) of `work`, whose column `load_bytes` is left out."""
    if not work.num_rows:
        return []
    ordered = work.sort_by([("load_bytes", "descending")])
    load = ordered["load_bytes"].to_numpy()
    ends = block_ends(load, actors)
    parcels = wrap(ordered.drop_columns(["load_bytes"]).combine_chunks(), ends)
    return [parcels.slice(i, 1) for i in range(len(ends))]


def block_ends(load_bytes: np.ndarray, actors: int) -> list[int]:
    """Return where each block ends; `load_bytes` is sorted, largest first.

    At least `BLOCKS_PER_ACTOR` blocks an actor, or one a video where there are too few.
    """
    wanted, count = BLOCKS_PER_ACTOR * actors, len(load_bytes)
    most_videos = min(MOST_VIDEOS, max(1, count // wanted))
    most_bytes = min(MOST_BYTES, float(load_bytes.sum()) / wanted)
    before = np.concatenate([[0.0], np.cumsum(load_bytes, dtype=np.float64)])
    ends, start = [], 0
    while start < count:
        fits = int(np.searchsorted(before, before[start] + most_bytes, "right")) - 1
        start = max(start + 1, min(fits, start + most_videos))
        ends.append(start)
    return ends


def alone(work: pa.Table) -> list[pa.Table]:
    """Return a block a video, so that one which takes its worker along takes nothing else."""
    rows = work.drop_columns(["load_bytes"]).combine_chunks()
    parcels = wrap(rows, range(1, rows.num_rows + 1))
    return [parcels.slice(i, 1) for i in range(rows.num_rows)]
