"""Rows between stages: what goes in comes out, and an hour of frames is not copied on the way."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from marc_core.config import IndexConfig, MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.fingerprints import Fingerprints
from marc_core.indexing import DecodedVideo
from marc_core.memory import MemoryStore
from marc_core.types import DecodeSummary, VideoInfo, VideoSource
from marc_core.video_rows import failure_row
from pipelines import writing
from pipelines.stages import (
    DECODED,
    INDEXED,
    _pack_decoded,
    _unpack_decoded,
    from_ipc,
    to_ipc,
)
from pipelines.writing import Writer

INFO = VideoInfo(
    codec="h264",
    container="mp4",
    width=8,
    height=6,
    rotation_deg=0,
    fps=25.0,
    duration_s=0.2,
    num_frames=5,
    has_audio=False,
)


def decoded() -> DecodedVideo:
    rng = np.random.default_rng(0)
    return DecodedVideo(
        summary=DecodeSummary(
            info=INFO, num_frames=5, num_errors=0, start_s=0.0, end_s=0.2, sample_fps=1.0,
            backend="pyav", backend_reason="default",
        ),
        content_digest="5-a",
        times_s=np.arange(5) / 25,
        shot_scores=rng.random(5, np.float32),
        dark=np.array([True, False, False, True, False]),
        sampled_index=np.array([0, 3]),
        sampled_frames=rng.integers(0, 256, (2, 6, 8, 3), np.uint8),
    )  # fmt: skip


def test_a_decoded_video_survives_the_way_between_stages():
    before = decoded()
    row = {"source": "{}", "attempts": 2, "sidecar": json.dumps({"tags": []})}
    table = _pack_decoded(row, before)
    table.validate(full=True)
    assert table.schema == DECODED
    received = from_ipc(to_ipc(table))
    (seen,) = received.select(["attempts", "failure"]).to_pylist()
    assert seen == {"attempts": 2, "failure": None}
    after = _unpack_decoded(received)
    assert after.summary == before.summary
    assert after.content_digest == before.content_digest
    for name in ("times_s", "shot_scores", "dark", "sampled_index", "sampled_frames"):
        given, got = getattr(before, name), getattr(after, name)
        assert given.dtype == got.dtype
        np.testing.assert_array_equal(given, got)


def test_a_row_of_a_larger_table_is_unpacked_alone():
    first, second = decoded(), decoded()
    second.sampled_frames[:] = 7
    tables = [_pack_decoded({"source": "{}", "attempts": 1}, d) for d in (first, second)]
    both = pa.concat_tables(tables).combine_chunks()
    assert _unpack_decoded(both.slice(1, 1)).sampled_frames.min() == 7


def test_frames_are_not_copied():
    video = decoded()
    table = _pack_decoded({"source": "{}", "attempts": 1}, video)
    assert np.shares_memory(_unpack_decoded(table).sampled_frames, video.sampled_frames)


def test_a_writer_looks_after_the_memory_and_survives_lost_races(tmp_path, monkeypatch):
    config = IndexConfig(memory=MemoryConfig(uri=str(tmp_path / "memory")))
    MemoryStore.open(config.memory, embedding_dim=4, create=True)
    calls = []

    def lose(store):
        calls.append(store)
        raise MemoryStoreError("Other writers won 8 times in a row.")

    monkeypatch.setattr(writing, "LOOK_EVERY_COMMITS", 2)
    monkeypatch.setattr(MemoryStore, "optimize_if_due", lose)
    writer = Writer(config, embedding_dim=4)
    for i in range(5):
        source = VideoSource(video_id=f"v{i}", uri=f"/{i}.mp4", size_bytes=1, version="1")
        row = failure_row(
            source, attempts=1, max_attempts=3, kind="no_frames", message="",
            fingerprints=Fingerprints(cuts="c", embeddings="e", features=None),
        )  # fmt: skip
        cells = {"video_id": f"v{i}", "failed": True, "videos": to_ipc(row)}
        writer.commit(pa.Table.from_pylist([cells], schema=INDEXED).to_pylist())
    assert len(calls) == 2
    assert MemoryStore.open(config.memory).status()["failed"] == 5
