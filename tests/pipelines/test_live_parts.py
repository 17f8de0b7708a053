"""Parts of long recordings as jobs of the watcher: which are given, and when all have ended."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.config import IndexConfig, MemoryConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.part_indexing import PartWork
from marc_core.schemas import PARTS, PARTS_MISSING, make_part_id
from marc_core.video.parts import Part
from marc_core.video.source import make_source
from pipelines.live_parts import LongRecordings
from pipelines.live_workers import Job
from tests.marc_core.memory import fakes

OURS = Fingerprints(cuts="c1", embeddings="e1", features="m1")
VIDEO = make_source("/rec/a.mp4", 1, "1")
JOB = Job(source="gate", video=VIDEO, camera="gate", tags=("source:gate",), mtime="end")


def part_row(number: int, **values: object) -> dict[str, object]:
    ends = {"from_s": 10.0 * number, "to_s": 10.0 * number + 10}
    part = Part(number=number, video_start_s=0.0, begin_s=None, stop_s=None, **ends)
    return {
        "part_id": make_part_id(VIDEO.video_id, number), "video_id": VIDEO.video_id, "part": number,
        "plan": PartWork(part=part, count=3, end_s=30.0).to_json(), **ends, "status": "planned",
        "attempts": 0, **OURS.columns(), "updated_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        **values,
    }  # fmt: skip


def parts(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PARTS)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A memory in which a recording of three parts is planned."""
    config = MemoryConfig(uri=str(tmp_path / "memory"), refresh_s=0.0)
    store = MemoryStore.open(config, embedding_dim=fakes.DIM, create=True)
    missing = {"status": "failed", "error_class": PARTS_MISSING, "num_parts": 3}
    video = fakes.video_row(VIDEO.video_id, VIDEO.uri, 0, **missing)
    planned = pa.Table.from_pylist([video], schema=schemas.VIDEOS)
    store.plan_parts(planned, parts(*map(part_row, range(3))))
    return store


def failed(store: MemoryStore, number: int) -> None:
    why = {"status": "failed", "error_class": "unreadable", "error_message": "x"}
    store.record_failed_parts(parts(part_row(number, attempts=1, **why)))


def test_every_part_is_a_job_and_the_last_one_settles_the_recording(store: MemoryStore) -> None:
    long = LongRecordings(store, OURS, IndexConfig())
    assert long.begun == {VIDEO.video_id}
    jobs = long.jobs_of(JOB)
    assert [PartWork.from_json(str(job.part)).part.number for job in jobs] == [0, 1, 2]
    assert {(job.mtime, job.tags, job.attempts) for job in jobs} == {("end", ("source:gate",), 1)}
    ended = []
    for number, job in enumerate(jobs):
        failed(store, number)
        ended.append(long.ended(job))
    assert ended == [False, False, True]
    row = store.get_video(VIDEO.video_id)
    assert row is not None
    assert row["error_class"] == "unreadable"
    assert long.ended(jobs[-1])  # the commit was repeated


def test_a_later_run_gives_what_is_missing_and_settles_what_is_not(store: MemoryStore) -> None:
    failed(store, 1)
    long = LongRecordings(store, OURS, IndexConfig())
    left = long.jobs_of(JOB)
    assert [PartWork.from_json(str(job.part)).part.number for job in left] == [0, 2]
    failed(store, 0)
    failed(store, 2)
    again = LongRecordings(store, OURS, IndexConfig())
    assert again.jobs_of(JOB) == []
    row = store.get_video(VIDEO.video_id)
    assert row is not None
    assert row["error_class"] == "unreadable"


def test_a_recording_of_another_cut_is_laid_out_anew(store: MemoryStore) -> None:
    other = Fingerprints(cuts="c2", embeddings="e1", features="m1")
    assert LongRecordings(store, other, IndexConfig()).begun == set()
