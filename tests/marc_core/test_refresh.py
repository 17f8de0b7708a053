"""Sidecars that came, changed or went after indexing reach text, camera, tags and wall clock."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.refresh import refresh_texts
from marc_core.types import VideoSource
from marc_core.video import list_videos
from marc_core.video_rows import base_row

DIM = 4
START_S = 50_000.0
SRT = "1\n00:00:01,000 --> 00:00:02,000\nhippopotamus\n\n2\n00:00:04,000 --> 00:00:06,000\nacross\n"


def listed(folder: Path) -> VideoSource:
    (source,) = list_videos([str(folder)], ["*.mp4"], {})
    return source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "clip.mp4").touch()
    return folder


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> MemoryStore:
    """A memory of one video of two events, on a clock that starts at 50,000 s."""
    store = MemoryStore.open(MemoryConfig(uri=str(tmp_path / "m")), embedding_dim=DIM, create=True)
    source = listed(folder)
    video = base_row(source, 1, Fingerprints(cuts="c", embeddings="e", features=None)) | {
        "status": "indexed", "num_events": 2, "num_parts": 1, "duration_s": 10.0,
        "warnings": ["2 other streams", "sidecar clip.vtt: old"],
    }  # fmt: skip
    events = [
        {
            "event_id": schemas.make_event_id(source.video_id, 0, i), "part": 0, "index": i,
            "video_id": source.video_id, "start_s": START_S + 5 * i, "end_s": START_S + 5 * i + 5,
            "video_start_s": START_S, "folder": str(folder),
            "embedding": np.ones(DIM, np.float32),
        }
        for i in range(2)
    ]  # fmt: skip
    store.publish(
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(DIM)),
    )
    return store


def said(store: MemoryStore, folder: Path) -> list[tuple]:
    events = store.events_of(listed(folder).video_id).to_pylist()
    return [(e["text"], e["camera"], e["tags"], e["recorded_from"]) for e in events]


def test_added_changed_and_removed(store: MemoryStore, folder: Path) -> None:
    (folder / "clip.en.srt").write_text(SRT)
    data = '{"camera": "gate", "tags": ["night"], "recorded_at": "2026-03-01T12:00:00Z"}'
    (folder / "clip.json").write_text(data)
    assert refresh_texts(store, [listed(folder)], {}) == 1
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    assert said(store, folder) == [
        ("hippopotamus across", "gate", ["night"], noon),
        ("across", "gate", ["night"], noon + dt.timedelta(seconds=5)),
    ]
    ids = [e["event_id"] for e in store.events_of(listed(folder).video_id).to_pylist()]
    texts = store.texts_of(ids).to_pylist()
    assert [(t["event_id"], t["start_s"], t["text"], t["language"]) for t in texts] == [
        (ids[0], START_S + 1, "hippopotamus", "en"),
        (ids[0], START_S + 4, "across", "en"),
        (ids[1], START_S + 4, "across", "en"),
    ]
    row = store.get_video(listed(folder).uri)
    assert row is not None
    assert row["warnings"] == ["2 other streams"]

    (folder / "clip.en.srt").write_text("1\n00:00:07,000 --> 00:00:08,000\nlater\n")
    (folder / "clip.json").write_text("{")
    refresh_texts(store, [listed(folder)], {})
    assert said(store, folder) == [(None, None, [], None), ("later", None, [], None)]
    row = store.get_video(listed(folder).uri)
    assert row is not None
    assert [w[:24] for w in row["warnings"]] == ["2 other streams", "sidecar clip.json: must "]

    (folder / "clip.en.srt").unlink()
    (folder / "clip.json").unlink()
    refresh_texts(store, [listed(folder)], {})
    assert [text for text, *_ in said(store, folder)] == [None, None]
    assert store.texts_of(ids).num_rows == 0
    row = store.get_video(listed(folder).uri)
    assert row is not None
    assert row["warnings"] == ["2 other streams"]


def test_what_is_known_of_a_watched_source_stays(store: MemoryStore, folder: Path) -> None:
    watched = {"camera": "gate", "tags": ["old", "source:gate", "north"]}
    row = store.videos().to_pylist()[0] | watched
    video = pa.Table.from_pylist([row], schema=schemas.VIDEOS)
    store.publish(video, store.events_of(row["video_id"]))
    (folder / "clip.json").write_text('{"tags": ["night"]}')
    refresh_texts(store, [listed(folder)], {})
    known = [(camera, tags) for _, camera, tags, _ in said(store, folder)]
    assert known == [("gate", ["night", "source:gate", "north"])] * 2


def test_a_video_that_the_memory_does_not_hold_is_passed_over(
    store: MemoryStore, folder: Path
) -> None:
    (folder / "other.mp4").touch()
    (folder / "other.srt").write_text(SRT)
    other = next(s for s in list_videos([str(folder)], ["*.mp4"], {}) if "other" in s.uri)
    assert refresh_texts(store, [other], {}) == 0


def test_all_parts_of_a_recording_and_of_its_copy_have_their_own_wall_clock(folder: Path) -> None:
    name = Fingerprints(cuts="c", embeddings="e", features=None)
    config = MemoryConfig(uri=str(folder.parent / "parts"))
    store = MemoryStore.open(config, embedding_dim=DIM, create=True)
    source = listed(folder)
    video = base_row(source, 1, name) | {
        "status": "failed", "error_class": schemas.PARTS_MISSING, "num_events": 0, "num_parts": 3,
        "duration_s": 3600.0, "warnings": [],
    }  # fmt: skip
    parts = [
        {
            "part_id": schemas.make_part_id(source.video_id, i), "video_id": source.video_id,
            "part": i, "plan": "{}", "from_s": 1200.0 * i, "to_s": 1200.0 * (i + 1),
            "status": schemas.PLANNED, "attempts": 0, **name.columns(),
            "updated_at": dt.datetime(2026, 3, 2, tzinfo=dt.UTC),
        }
        for i in range(3)
    ]  # fmt: skip
    table = pa.Table.from_pylist([video], schema=schemas.VIDEOS)
    store.plan_parts(table, pa.Table.from_pylist(parts, schema=schemas.PARTS))
    for part in parts:
        event = {
            "event_id": schemas.make_event_id(source.video_id, part["part"], 0), "index": 0,
            "part": part["part"], "video_id": source.video_id, "start_s": START_S + part["from_s"],
            "end_s": START_S + part["to_s"], "video_start_s": START_S, "folder": str(folder),
            "embedding": np.ones(DIM, np.float32),
        }  # fmt: skip
        done = part | {"status": "indexed", "num_events": 1, "num_frames": 1, "warnings": [],
                       "num_decode_errors": 0}  # fmt: skip
        store.publish_part(
            pa.Table.from_pylist([done], schema=schemas.PARTS),
            pa.Table.from_pylist([event], schema=schemas.events_schema(DIM)), None, None,
        )  # fmt: skip
    place = folder.parent / "copy"
    place.mkdir()
    (place / "clip.mp4").touch()
    copy = listed(place)
    assert store.copy_videos({copy: source.video_id}) == []  # not before all parts have ended
    store.settle_parts([source.video_id])
    assert store.copy_videos({copy: source.video_id}) == [copy.video_id]
    begun = {}
    for one, day in ((source, 1), (copy, 9)):
        begun[one.video_id] = dt.datetime(2026, 3, day, 22, 30, tzinfo=dt.UTC)
        said_at = f'{{"recorded_at": "2026-03-{day:02d}T23:30:00+01:00"}}'
        Path(one.uri).with_suffix(".json").write_text(said_at)
    assert refresh_texts(store, [listed(folder), listed(place)], {}) == 2
    for video_id, start in begun.items():
        events = store.events_of(video_id).to_pylist()
        minutes = [(e["part"], (e["recorded_from"] - start).total_seconds()) for e in events]
        assert minutes == [(0, 0.0), (1, 1200.0), (2, 2400.0)]
        assert {(e["recorded_to"] - e["recorded_from"]).total_seconds() for e in events} == {1200.0}
        rows = store.parts().to_pylist()
        own = [row for row in rows if row["video_id"] == video_id]
        assert sorted((row["part"], row["status"]) for row in own) == [
            (0, "indexed"), (1, "indexed"), (2, "indexed"),
        ]  # fmt: skip
        assert {row["part_id"] for row in own} == {
            schemas.make_part_id(video_id, number) for number in range(3)
        }
