"""What a run says of its archive: every video once, whoever tried it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.index_report import report_lines
from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource
from marc_core.video import list_videos
from marc_core.video_rows import base_row, failure_row
from pipelines.report import IndexReport, make_report

NOW = Fingerprints(cuts="c", embeddings="e", features="f")
DIM = 4


def source(name: str) -> VideoSource:
    return VideoSource(video_id=name, uri=f"/a/{name}.mp4", size_bytes=1, version="1")


def failed(name: str, kind: str, attempts: int = 1) -> pa.Table:
    return failure_row(
        source(name), attempts=attempts, max_attempts=3, fingerprints=NOW, kind=kind, message="m"
    )


def publish(store: MemoryStore, name: str, **values: object) -> None:
    video = base_row(source(name), 1, NOW) | {
        "status": schemas.INDEXED, "num_events": 1, "num_parts": 1, "duration_s": 36.0, **values
    }  # fmt: skip
    event = {
        "event_id": schemas.make_event_id(name, 0, 0), "video_id": name, "part": 0, "index": 0,
        "start_s": 0.0, "end_s": 36.0, "video_start_s": 0.0, "folder": "/a",
        "embedding": np.ones(DIM, np.float32),
    }  # fmt: skip
    store.publish(
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist([event], schema=schemas.events_schema(DIM)),
    )


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = MemoryStore.open(
        MemoryConfig(uri=str(tmp_path / "memory")), embedding_dim=DIM, create=True
    )
    publish(store, "old")
    publish(store, "new", warnings=["sidecar new.srt: is no text."])
    publish(store, "elsewhere", warnings=["of another archive"])
    rows = [
        failed("unreadable", "unreadable"),
        failed("outage", "source", attempts=9),
        failed("poison", "timeout", attempts=3),
        failed("poison_before", "decoder_crash", attempts=3),
    ]
    store.record_failures(pa.concat_tables(rows))
    return store


LEFT_OUT = "left out: files that look like videos and fit no pattern"
FOUND = ["old", "new", "unreadable", "outage", "poison", "poison_before"]


def test_every_video_is_counted_once(store: MemoryStore) -> None:
    report = make_report(store, FOUND, ["new", "outage", "poison"], 10.0)
    assert (report.indexed, report.already) == (1, 1)
    assert (report.failed, report.still_failing, report.quarantined) == (1, 1, 2)
    assert report.found == 6
    assert report.failures == {"unreadable": 1, "source": 1, "timeout": 1, "decoder_crash": 1}
    assert (report.events, report.video_hours, report.hours_per_hour) == (1, 0.01, 3.6)
    assert report.warnings == 1


def test_the_failed_share_is_that_of_the_archive(store: MemoryStore) -> None:
    """A rerun that tries one bad file of three does not say that everything failed."""
    report = make_report(store, ["old", "new", "outage"], ["outage"], 1.0)
    assert report.failed_fraction == pytest.approx(1 / 3)
    assert make_report(store, [], [], 1.0).failed_fraction == 0.0


def test_lines_say_what_is_and_what_to_do(store: MemoryStore, tmp_path: Path) -> None:
    for name in ("a.r3d", "b.R3D", "[c].braw", "notes.txt", ".hidden.r3d"):
        (tmp_path / name).touch()
    listing = list_videos([str(tmp_path)], ["*.mp4"], {})
    assert list(listing) == []
    report = make_report(store, FOUND, ["new", "outage", "poison"], 10.0, listing, moved=2)
    lines = [line.strip() for line, _ in report_lines(report, "runs/m")]
    names = ", ".join(listing.ignored_names)
    assert sorted(listing.ignored_names) == ["[c].braw", "a.r3d", "b.R3D"]
    assert [line.replace(names, "NAMES") for line in lines] == [
        "6 videos found",
        "1 indexed now: 1 event from 0.6 min of video in 10.0 s (3.6 x real time)",
        "1 already there",
        "1 failed now",
        "1 still failing since an earlier run, not tried again (retry_failed=true tries)",
        "2 quarantined: stalled or killed the decoder too often (retry_failed=true tries again)",
        "reasons: 1 decoder_crash, 1 source, 1 timeout, 1 unreadable",
        "which and why: marc status -m runs/m --failures",
        "2 moved, events kept without decoding",
        f"3 {LEFT_OUT} (NAMES): patterns=[...] takes them",
        "1 with warnings: marc status -m runs/m --warnings",
    ]


def test_a_clean_run_says_little() -> None:
    report = IndexReport(
        found=1, indexed=0, already=1, failed=0, still_failing=0, quarantined=0, wall_s=1.0
    )
    assert [line.strip() for line, _ in report_lines(report, "m")] == [
        "1 video found",
        "1 already there",
    ]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("timeout", schemas.QUARANTINED),
        ("decoder_crash", schemas.QUARANTINED),
        ("source", schemas.FAILED),
        ("internal", schemas.FAILED),
        ("worker_lost", schemas.FAILED),
        ("unreadable", schemas.FAILED),
    ],
)
def test_only_what_stalls_or_kills_a_decoder_is_quarantined(kind: str, status: str) -> None:
    (row,) = failed("v", kind, attempts=3).to_pylist()
    assert (row["status"], row["error_class"], row["attempts"]) == (status, kind, 3)
    (row,) = failed("v", kind, attempts=2).to_pylist()
    assert row["status"] == schemas.FAILED
    assert row["indexed_at"] <= dt.datetime.now(dt.UTC)
