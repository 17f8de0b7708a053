"""A long recording on its way through the stages, in one process: planned, done, gone on with."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from marc_core.config import EncoderConfig, EventConfig, IndexConfig, MemoryConfig, VideoConfig
from marc_core.embed import encoder_facts
from marc_core.fingerprints import fingerprints_of
from marc_core.memory import MemoryStore
from marc_core.schemas import PARTS_MISSING, PLANNED
from marc_core.video import list_videos
from pipelines.plan import collect, plan_work, verdict
from pipelines.recordings import PART_WORK, index_parts, missing_parts
from pipelines.stages import DecodeStage, EncodeStage
from pipelines.writing import Writer
from tests.marc_core.films import film
from tests.marc_core.memories import PictureChange

EVENTS = EventConfig(max_event_s=5.0)


@functools.cache
def encode_stage(fingerprints):
    config = IndexConfig(memory=MemoryConfig(store_features=False), events=EVENTS)
    return EncodeStage(replace(config, encoder=EncoderConfig(device="cpu")), fingerprints)


def stages(config, fingerprints):
    """Return the stages of a job, with a cheap shot detector and one encoder for all tests."""
    decode, encode = DecodeStage(config), encode_stage(fingerprints)
    decode.detector = PictureChange(EVENTS)
    return decode, encode


class Job:
    """What `index_archive` does, without Ray and with a cheap shot detector."""

    def __init__(self, folder: Path, **video) -> None:
        self.config = IndexConfig(
            archive=(str(folder / "films"),),
            memory=MemoryConfig(uri=str(folder / "memory"), store_features=False),
            video=VideoConfig(part_s=20.0, chunk_frames=64, frame_max_pixels=28 * 28, **video),
            events=EVENTS,
            encoder=EncoderConfig(device="cpu"),
        )
        encoder = encoder_facts(self.config.encoder)
        self.fingerprints = fingerprints_of(self.config, encoder.fingerprint, None)
        self.store = MemoryStore.open(
            self.config.memory,
            embedding_dim=encoder.dim,
            encoder_fingerprint=encoder.fingerprint,
            create=True,
        )
        self.decode, self.encode = stages(self.config, self.fingerprints)
        self.writer = Writer(self.config, encoder.dim)
        self.tried: list[str] = []
        self.fail_at: str | None = None

    def run(self, left: pa.Table, turn: int) -> None:
        for i in range(left.num_rows):
            row = left.slice(i, 1).drop_columns(["load_bytes"])
            self.tried.append(f"{row['part'][0].as_py() is not None}")
            if self.fail_at == "killed" and row["part"][0].as_py() and len(self.tried) > 3:
                raise KeyboardInterrupt
            done = self.encode.one(self.decode.one(row))
            self.writer.commit(done.to_pylist())

    def index(self) -> list[str]:
        found = collect(list_videos(self.config.archive, self.config.patterns, {}))
        decide = partial(verdict, self.fingerprints, self.config)
        plan = plan_work(found, self.store.video_states(), decide)
        self.tried.clear()
        self.run(plan.work, 0)
        return index_parts(
            found,
            run=self.run,
            run_in_order=self.run,
            add=lambda count: None,
            store=self.store,
            fingerprints=self.fingerprints,
            config=self.config,
        )


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    (folder / "films").mkdir()
    film(folder / "films" / "film.mp4")
    return folder


@pytest.fixture
def job(films, tmp_path):
    (tmp_path / "films").symlink_to(films / "films")
    job = Job(tmp_path)
    yield job
    job.decode.decoder.close()


def events_of(store: MemoryStore):
    store.refresh()
    (video,) = store.videos().to_pylist()
    columns = ["event_id", "part", "start_s", "end_s", "boundary_kind", "video_start_s"]
    return video, store.events_of(video["video_id"], columns=columns).to_pylist()


def test_a_long_recording_is_planned_and_its_parts_are_done_once(job):
    assert len(job.index()) == 1
    assert job.tried == ["False", *["True"] * 4]
    video, events = events_of(job.store)
    assert (video["status"], video["num_parts"], video["num_events"]) == ("indexed", 4, len(events))
    assert video["num_frames"] == 800
    assert video["duration_s"] == pytest.approx(80.0, abs=0.2)
    assert video["warnings"] == []
    assert {e["part"] for e in events} == {0, 1, 2, 3}
    assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(events))
    assert (events[0]["boundary_kind"], events[0]["start_s"]) == ("start", 0.0)
    assert [e["boundary_kind"] for e in events].count("start") == 1
    assert {e["video_start_s"] for e in events} == {0.0}
    assert job.index() == []
    assert job.tried == []


def test_after_a_kill_only_missing_parts_are_done(job):
    job.fail_at = "killed"
    with pytest.raises(KeyboardInterrupt):
        job.index()
    video, events = events_of(job.store)
    assert (video["error_class"], {e["part"] for e in events}) == (PARTS_MISSING, {0, 1})
    job.fail_at = None
    job.index()
    assert job.tried == ["True", "True"]
    video, events = events_of(job.store)
    assert (video["status"], {e["part"] for e in events}) == ("indexed", {0, 1, 2, 3})


def test_a_part_that_fails_is_a_gap_with_a_reason_and_is_tried_again(job, monkeypatch):
    decode = job.decode.decode

    def crash(row, source):
        if row["part"] is not None and json.loads(row["part"])[0]["number"] == 1:
            raise RuntimeError("no luck")
        return decode(row, source)

    monkeypatch.setattr(job.decode, "decode", crash)
    job.index()
    video, events = events_of(job.store)
    assert (video["status"], {e["part"] for e in events}) == ("indexed", {0, 2, 3})
    (gap,) = video["warnings"]
    assert "part 2 of 4" in gap
    assert "no luck" in gap
    monkeypatch.undo()
    job.index()
    assert job.tried == ["True"]
    video, events = events_of(job.store)
    assert (video["warnings"], {e["part"] for e in events}) == ([], {0, 1, 2, 3})


def test_which_parts_are_wanted(job):
    found = collect(list_videos(job.config.archive, job.config.patterns, {}))
    job.run(
        plan_work(
            found, job.store.video_states(), partial(verdict, job.fingerprints, job.config)
        ).work,
        0,
    )
    parts = job.store.parts()
    assert set(parts["status"].to_pylist()) == {PLANNED}
    work = missing_parts(parts, found, job.fingerprints, job.config)
    assert (work.schema, work.num_rows) == (PART_WORK, 4)
    assert sum(work["load_bytes"].to_pylist()) == pytest.approx(
        found["load_bytes"][0].as_py(), rel=0.01
    )

    def wanted(config=job.config, fingerprints=job.fingerprints, **values):
        rows = [row | values for row in parts.to_pylist()]
        table = pa.Table.from_pylist(rows, schema=parts.schema)
        return missing_parts(table, found, fingerprints, config).num_rows

    retry = replace(job.config, retry_failed=True)
    assert wanted(status="indexed") == wanted(retry, status="indexed") == 0
    assert wanted(status="failed", error_class="worker_lost") == 4
    assert wanted(status="failed", error_class="unreadable") == 0
    assert wanted(retry, status="failed", error_class="unreadable") == 4
    assert wanted(status="quarantined", error_class="timeout") == 0
    assert wanted(fingerprints=replace(job.fingerprints, cuts="other")) == 0
    assert missing_parts(parts, found.slice(0, 0), job.fingerprints, job.config).num_rows == 0
