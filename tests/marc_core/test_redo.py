"""Embeddings and features computed anew from the frames at the stored times."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.odd_times import scenes, write_film
from marc_core.config import EventConfig, IndexConfig, VideoConfig
from marc_core.errors import UnreadableVideoError
from marc_core.indexing import decode_video, encode_video
from marc_core.redo import EventFrames, embedding_rows, feature_rows, read_event_frames
from marc_core.text import Sidecar
from marc_core.types import VideoSource
from marc_core.video import IsolatedDecoder
from tests.marc_core.memories import PictureChange

EVENTS = EventConfig(change_points=False, min_event_s=0.5)


class MeanColours:
    """An encoder: a frame's mean colour as a unit vector."""

    dim, fingerprint = 3, "mean colours"

    def encode_images(self, frames_FHWC):
        means = frames_FHWC.reshape(len(frames_FHWC), -1, 3).mean(axis=1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("max_frames", [64, 2])
def test_what_is_redone_equals_what_indexing_computed(make_tower, tmp_path, max_frames):
    tower = make_tower(max_frames=max_frames)
    config = IndexConfig(student=tower.config, events=EVENTS)
    path = str(write_film(tmp_path / "clip.mp4", scenes(seconds=1.2)))
    source = VideoSource(video_id="v", uri=path, size_bytes=1, version="1")
    with IsolatedDecoder(VideoConfig(sample_fps=4.0)) as decoder:
        decoded = decode_video(path, decoder, PictureChange(EVENTS))
        indexed = encode_video(
            source, decoded, Sidecar(), config=config, encoder=MeanColours(), tower=tower
        )
        rows = indexed.events.select(["event_id", "video_id", "frame_times_s"]).to_pylist()
        whole = read_event_frames(path, rows, decoder=decoder)
        capped = read_event_frames(path, rows, decoder=decoder, max_frames=max_frames)
    assert len(rows) == 5
    assert [len(times) for times in whole.times_s] == [len(r["frame_times_s"]) for r in rows]
    assert max(len(times) for times in capped.times_s) <= max_frames
    vectors = embedding_rows(whole, MeanColours())
    for name in ("event_id", "video_id", "embedding"):
        assert vectors[name].equals(indexed.events[name])
    assert vectors["fingerprint"].unique().to_pylist() == ["mean colours"]
    assert feature_rows(whole, tower, config).equals(indexed.features)
    assert feature_rows(capped, tower, config).equals(indexed.features)


def test_frames_are_split_as_events_own_them():
    read = EventFrames(
        owners=[("v:0000:00000", "v"), ("v:0000:00001", "v")],
        times_s=[np.array([0.0]), np.array([1.0, 2.0])],
        frames_SHWC=np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1),
    )
    assert [part.ravel().tolist() for part in read.split(read.frames_SHWC)] == [[0], [1, 2]]


def test_a_changed_file_is_not_taken_for_the_indexed_one(tmp_path):
    path = write_film(tmp_path / "clip.mp4", ["red"] * 30)
    rows = [{"event_id": "v:0000:00000", "video_id": "v", "frame_times_s": [0.0, 5.0]}]
    with (
        IsolatedDecoder(VideoConfig()) as decoder,
        pytest.raises(UnreadableVideoError, match=r"no frame at 5\.0"),
    ):
        read_event_frames(str(path), rows, decoder=decoder)
