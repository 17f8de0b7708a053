"""Work is dealt out in blocks of about equal work, the largest first, several an actor."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.blocks import BLOCKS_PER_ACTOR, MOST_BYTES, MOST_VIDEOS, alone, block_ends, deal
from pipelines.parcels import unwrap

MB = 1024**2


def loads(*sizes: float) -> np.ndarray:
    return np.sort(np.array(sizes, dtype=np.float64))[::-1]


def work(sizes: list[float]) -> pa.Table:
    return pa.table({"video_id": [f"v{i}" for i in range(len(sizes))], "load_bytes": sizes})


@pytest.mark.parametrize("actors", [1, 2, 64])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_cover_all_and_are_bounded_and_many_enough(actors: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5000))
    load = np.sort(rng.lognormal(14, 2.5, count) * (rng.random(count) > 0.1))[::-1]
    ends = block_ends(load, actors)
    starts = [0, *ends[:-1]]
    assert ends[-1] == count
    for start, end in zip(starts, ends, strict=True):
        assert 1 <= end - start <= MOST_VIDEOS
        assert end - start == 1 or load[start:end].sum() <= MOST_BYTES
    assert len(ends) >= min(count, BLOCKS_PER_ACTOR * actors)


def test_a_large_file_is_alone_and_small_ones_share() -> None:
    load = loads(*[900 * MB], *[0.5 * MB] * 640)
    sizes = np.diff([0, *block_ends(load, 2)])
    assert sizes[0] == 1
    assert sizes[1:].min() == MOST_VIDEOS == sizes[1:].max()


def test_a_few_clips_are_spread_over_the_actors() -> None:
    assert np.diff([0, *block_ends(loads(*[MB] * 8), 2)]).tolist() == [1] * 8


def test_the_largest_go_first_and_none_is_lost() -> None:
    blocks = deal(work([1.0, 300 * MB, 2.0, 200 * MB]), actors=1)
    names = [unwrap(block)["video_id"].to_pylist() for block in blocks]
    assert names[:2] == [["v1"], ["v3"]]
    assert sorted(name for block in names for name in block) == ["v0", "v1", "v2", "v3"]
    assert "load_bytes" not in blocks[0].column_names


@pytest.mark.parametrize("actors", [2, 16])
def test_the_last_video_of_a_mixed_archive_is_done_when_all_actors_are(actors: int) -> None:
    """Each block goes to the actor that is free first: no plan could end a tenth sooner."""
    rng = np.random.default_rng(7)
    load = loads(*rng.uniform(500 * MB, 4000 * MB, 5 * actors), *rng.lognormal(13, 1.5, 5000))
    ends = block_ends(load, actors)
    busy = np.zeros(actors)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        busy[busy.argmin()] += load[start:end].sum()
    assert busy.max() < 1.1 * max(load.sum() / actors, load[0])


def test_empty_files_weigh_nothing_and_still_share_blocks() -> None:
    assert len(block_ends(loads(*[0.0] * 2000), 2)) == 32


def test_alone_is_a_block_a_video() -> None:
    names = [unwrap(block)["video_id"].to_pylist() for block in alone(work([1.0, 2.0, 3.0]))]
    assert names == [["v0"], ["v1"], ["v2"]]


def test_no_work_is_no_block() -> None:
    assert deal(work([]), actors=2) == []
