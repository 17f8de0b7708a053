"""A rerun keeps what it can: no Ray runs and the files are no videos, so a decode would fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from jobs.index import plan_lines
from marc_core import schemas
from marc_core.config import IndexConfig, load_config
from marc_core.digest import content_digest
from marc_core.embed import encoder_facts
from marc_core.fingerprints import Fingerprints, fingerprints_of
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource
from marc_core.video import list_videos
from marc_core.video.beside import texts_fingerprint
from marc_core.video_rows import base_row
from pipelines.index import index_archive, preview

SRT = "1\n00:00:02,500 --> 00:00:03,000\nhippopotamus [music]\n"


@pytest.fixture
def config(tmp_path: Path) -> IndexConfig:
    """An archive of two files, and a memory that holds them as an indexing run would."""
    (tmp_path / "archive").mkdir()
    for i in range(2):
        (tmp_path / "archive" / f"clip{i}.mp4").write_text(f"no video {i}")
    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[
            f"archive=['{tmp_path}/archive']",
            f"memory.uri='{tmp_path}/memory'",
            "memory.store_features=false",
            "text.speech=off",
            "text.writing=off",
        ],
    )
    encoder = encoder_facts(config.encoder)
    store = MemoryStore.open(
        config.memory,
        embedding_dim=encoder.dim,
        encoder_fingerprint=encoder.fingerprint,
        create=True,
    )
    fingerprints = fingerprints_of(config, encoder.fingerprint, None)
    for source in list_videos(config.archive, config.patterns, {}):
        publish(store, source, fingerprints)
    return config


def publish(store: MemoryStore, source: VideoSource, fingerprints: Fingerprints) -> None:
    """Publish a video of two events, [0, 2) and [2, 4) s, without files beside it."""
    video = base_row(source, 1, fingerprints) | {
        "status": "indexed", "num_events": 2, "num_parts": 1, "duration_s": 4.0,
        "content_digest": content_digest(source.uri), "texts_fingerprint": texts_fingerprint(()),
    }  # fmt: skip
    dim = store.meta.embedding_dim
    events = [
        {
            "event_id": schemas.make_event_id(source.video_id, 0, i), "part": 0, "index": i,
            "video_id": source.video_id, "start_s": 2.0 * i, "end_s": 2.0 * i + 2,
            "video_start_s": 0.0, "folder": schemas.folder_of(source.uri),
            "embedding": np.ones(dim, np.float32),
        }
        for i in range(2)
    ]  # fmt: skip
    store.publish(
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(dim)),
    )


def texts(config: IndexConfig, name: str) -> list[str | None]:
    store = MemoryStore.open(config.memory)
    row = store.get_video(f"{config.archive[0]}/{name}")
    assert row is not None
    return store.events_of(row["video_id"])["text"].to_pylist()


def test_captions_that_come_change_and_go_later_cost_no_decode(config: IndexConfig) -> None:
    was_up = ray.is_initialized()
    captions = Path(config.archive[0]) / "clip1.en.SRT"
    captions.write_text(SRT)
    report = index_archive(config)
    assert (report.texts_updated, report.indexed, report.already) == (1, 0, 2)
    assert texts(config, "clip1.mp4") == [None, "hippopotamus [music]"]
    assert index_archive(config).texts_updated == 0

    captions.write_bytes("1\n00:00:00,500 --> 00:00:01,000\ncafé\n".encode("cp1252"))
    assert index_archive(config).texts_updated == 1
    assert texts(config, "clip1.mp4") == ["café", None]

    captions.unlink()
    assert index_archive(config).texts_updated == 1
    assert texts(config, "clip1.mp4") == [None, None]
    assert texts(config, "clip0.mp4") == [None, None]
    assert ray.is_initialized() == was_up  # no cluster was started for it


def test_a_bad_sidecar_is_a_warning_until_it_is_corrected(config: IndexConfig) -> None:
    captions = Path(config.archive[0]) / "clip0.srt"
    captions.write_bytes(bytes(range(256)))
    report = index_archive(config)
    assert (report.warnings, report.already, report.failed_fraction) == (1, 2, 0.0)
    captions.write_text(SRT)
    assert index_archive(config).warnings == 0
    assert texts(config, "clip0.mp4") == [None, "hippopotamus [music]"]


def test_a_moved_file_keeps_its_events(config: IndexConfig) -> None:
    folder = Path(config.archive[0])
    (folder / "deep").mkdir()
    (folder / "clip0.mp4").rename(folder / "deep" / "renamed.mp4")
    (folder / "deep" / "renamed.srt").write_text(SRT)
    report = index_archive(config)
    assert (report.moved, report.texts_updated, report.indexed) == (1, 1, 0)
    assert (report.found, report.already) == (2, 2)
    assert texts(config, "deep/renamed.mp4") == [None, "hippopotamus [music]"]
    store = MemoryStore.open(config.memory)
    assert store.get_video(str(folder / "clip0.mp4")) is None
    assert len(store.videos()) == 2


def test_a_file_moved_between_archives_is_looked_for_where_it_was(config: IndexConfig) -> None:
    folder = Path(config.archive[0])
    other = folder.parent / "other"
    other.mkdir()
    (folder / "clip0.mp4").rename(other / "clip0.mp4")
    report = index_archive(dataclasses.replace(config, archive=(str(other),)))
    assert (report.moved, report.found, report.already) == (1, 1, 1)


def test_a_preview_counts_moves_and_texts_apart_from_new_videos(config: IndexConfig) -> None:
    folder = Path(config.archive[0])
    (folder / "clip0.mp4").rename(folder / "renamed.mp4")
    (folder / "renamed.srt").write_text(SRT)
    (folder / "clip1.srt").write_text(SRT)
    (folder / "new.mp4").write_text("no video either")
    (folder / "new.srt").write_text(SRT)
    rows = MemoryStore.open(config.memory).videos().to_pylist()
    plan = preview(config)
    assert plan.why == {"indexed": 2, "new": 1}
    assert (plan.work.num_rows, plan.moved, plan.texts) == (1, 1, 2)
    said = " ".join(plan_lines(config))
    assert "1 video moved" in said
    assert "2 videos with changed files beside" in said
    assert MemoryStore.open(config.memory).videos().to_pylist() == rows  # nothing was written

    (folder / "new.mp4").unlink()
    report = index_archive(config)
    assert (report.moved, report.texts_updated, report.indexed) == (1, 2, 0)
    plan = preview(config)
    assert (plan.moved, plan.texts, plan.why) == (0, 0, {"indexed": 2})
    assert "moved" not in " ".join(plan_lines(config))
