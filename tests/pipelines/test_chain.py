"""Videos stream through the chain: the next stage has the first before the block has ended."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from ray.data import DataContext

from marc_core.config import IndexConfig, load_config
from marc_core.fingerprints import Fingerprints
from marc_core.video import list_videos
from pipelines import index, running
from pipelines.blocks import deal
from pipelines.index import chain
from pipelines.plan import collect, plan_work, verdict
from pipelines.pools import Pool, Pools
from tests.pipelines.slow_stages import Light, Slow

NOW = Fingerprints(cuts="c", embeddings="e", features=None)


@pytest.mark.slow  # by the clock: wrong on a busy machine
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore:`ray_remote_args` is deprecated")  # see run_chain
def test_downstream_starts_before_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(5):
        (tmp_path / f"{i}.mp4").write_text(f"no video {i}")
    config = load_config(IndexConfig, preset="tiny", overrides=["memory.store_features=false"])
    plan = plan_work(
        collect(list_videos([str(tmp_path)], config.patterns, {})),
        pa_states(),
        partial(verdict, NOW, config),
    )
    monkeypatch.setattr("pipelines.blocks.BLOCKS_PER_ACTOR", 1)
    monkeypatch.setattr("pipelines.blocks.MOST_BYTES", 2**40)
    monkeypatch.setattr(index, "DecodeStage", Slow)
    monkeypatch.setattr(index, "EncodeStage", Light)
    blocks = deal(plan.work, actors=1)
    assert len(blocks) == 1
    one = Pool(now=1, most=1)
    pools = Pools(decoders=one, encoders=one, encode_gpus=0.0)
    came_s = []
    survive = {"max_restarts": -1, "max_task_retries": 0}
    with DataContext.current(running._context()):
        dataset = chain(blocks, config=config, fingerprints=NOW, pools=pools, survive=survive)
    for bundle in dataset.iter_internal_ref_bundles():
        came_s += [time.monotonic()] * len(bundle.block_refs)
    assert len(came_s) == 5
    assert came_s[-1] - came_s[0] > 2


def pa_states():
    import pyarrow as pa

    from marc_core import schemas

    names = ["video_id", "uri", "status", "attempts", "error_class"]
    names += ["cuts_fingerprint", "embeddings_fingerprint", "features_fingerprint"]
    return pa.schema([schemas.VIDEOS.field(name) for name in names]).empty_table()
