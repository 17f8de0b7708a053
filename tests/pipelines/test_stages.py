"""Rows between stages: what goes in comes out, and an hour of frames is not copied on the way."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from marc_core.indexing import DecodedVideo
from marc_core.types import DecodeSummary, VideoInfo
from pipelines.stages import DECODED, _pack_decoded, _unpack_decoded

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
        times_s=np.arange(5) / 25,
        shot_scores=rng.random(5, np.float32),
        dark=np.array([True, False, False, True, False]),
        sampled_index=np.array([0, 3]),
        sampled_frames=rng.integers(0, 256, (2, 6, 8, 3), np.uint8),
    )  # fmt: skip


def test_a_decoded_video_survives_the_way_between_stages():
    before = decoded()
    row = {"source": "{}", "attempts": 2}
    table = _pack_decoded(row, before, json.dumps({"tags": []}))
    table.validate(full=True)
    assert table.schema == DECODED
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (seen,) = (
        pa.ipc.open_stream(sink.getvalue()).read_all().select(["attempts", "failure"]).to_pylist()
    )
    assert seen == {"attempts": 2, "failure": None}
    after = _unpack_decoded(pa.ipc.open_stream(sink.getvalue()).read_all())
    assert after.summary == before.summary
    for name in ("times_s", "shot_scores", "dark", "sampled_index", "sampled_frames"):
        given, got = getattr(before, name), getattr(after, name)
        assert given.dtype == got.dtype
        np.testing.assert_array_equal(given, got)


def test_a_row_of_a_larger_table_is_unpacked_alone():
    first, second = decoded(), decoded()
    second.sampled_frames[:] = 7
    tables = [_pack_decoded({"source": "{}", "attempts": 1}, d, "{}") for d in (first, second)]
    both = pa.concat_tables(tables).combine_chunks()
    assert _unpack_decoded(both.slice(1, 1)).sampled_frames.min() == 7


def test_frames_are_not_copied():
    video = decoded()
    table = _pack_decoded({"source": "{}", "attempts": 1}, video, "{}")
    assert np.shares_memory(_unpack_decoded(table).sampled_frames, video.sampled_frames)
