"""Recordings that cannot be sought: one worker does all parts, and publishes each."""

from __future__ import annotations

import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.odd_times import write_film
from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore
from marc_core.part_indexing import PartWork
from marc_core.schemas import PARTS_MISSING
from marc_core.video.layout import parts_in_order
from pipelines.in_order import files_of, is_in_order
from pipelines.index import index_archive
from pipelines.parcels import rows_of
from pipelines.recordings import PART_WORK
from tests.marc_core.films import film, film_colours
from tests.pipelines.test_index import configure
from tests.pipelines.test_survival import finish, start_index
from tests.processes import descendants_named

MPEG = {"codec": "mpeg2video", "fps": 25, "tick": Fraction(1, 25)}


def work_on(video_id: str, numbers: list[int], load_bytes: float) -> list[dict[str, object]]:
    parts = parts_in_order(0.0, np.array([10.0, 20.0]))
    return [
        {
            "video_id": video_id, "source": "{}", "attempts": 1, "load_bytes": load_bytes,
            "part": PartWork(part=parts[number], count=3, end_s=30.0).to_json(),
        }
        for number in numbers
    ]  # fmt: skip


def test_a_recording_is_a_parcel_the_longest_first_and_parts_are_in_order() -> None:
    rows = [*work_on("a", [2, 0], 1.0), *work_on("b", [1, 2, 0], 9.0)]
    work = pa.Table.from_pylist(rows, schema=PART_WORK)
    assert is_in_order(work).to_pylist() == [True] * 5
    found = [
        [
            (row["video_id"][0].as_py(), PartWork.from_json(row["part"][0].as_py()).part.number)
            for row in rows_of(parcel)
        ]
        for parcel in files_of(work)
    ]
    assert found == [[("b", 0), ("b", 1), ("b", 2)], [("a", 0), ("a", 2)]]


@pytest.mark.usefixtures("chains")
def test_a_recording_that_cannot_be_sought_is_indexed_in_parts(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    write_film(tmp_path / "archive" / "film.mpg", film_colours()[:300], **MPEG)
    config = configure(tmp_path / "archive", tmp_path / "memory", "video.part_s=10")
    seen: list[tuple[int, int, int]] = []
    report = index_archive(config, lambda *counts: seen.append(counts))
    assert (report.indexed, report.failed) == (1, 0)
    assert seen[-1] == (3, 0, 3)
    store = MemoryStore.open(config.memory)
    (video,) = store.videos().to_pylist()
    assert (video["status"], video["num_parts"], video["num_frames"]) == ("indexed", 2, 300)
    assert "in parts of one pass" in video["decode_reason"]
    assert video["duration_s"] == pytest.approx(12.0, abs=0.05)
    events = store.events_of(video["video_id"]).to_pylist()
    assert {event["part"] for event in events} == {0, 1}
    assert index_archive(config).already == 1


def parts_of(memory: Path) -> list[dict[str, object]]:
    try:
        return MemoryStore.open(MemoryConfig(uri=str(memory))).parts().to_pylist()
    except MemoryStoreError:
        return []  # not yet there


def wait_for_parts(memory: Path, count: int, *, at_most_s: float = 240) -> None:
    end = time.monotonic() + at_most_s
    while time.monotonic() < end:
        parts = parts_of(memory)
        done = [row for row in parts if row["status"] == "indexed"]
        if len(done) >= count:
            assert len(done) < len(parts), "all was done before the kill"
            return
        time.sleep(0.1)
    pytest.fail(f"no {count} parts within {at_most_s} s")


@pytest.mark.slow
@pytest.mark.parametrize("who", ["worker", "job"])
def test_a_kill_in_the_middle_loses_the_missing_parts_only(tmp_path: Path, who: str) -> None:
    archive, memory = tmp_path / "archive", tmp_path / "memory"
    archive.mkdir()
    films = [film(tmp_path / f"{i}.mpg", i, **MPEG) for i in range(2)]
    data = b"".join(path.read_bytes() for path in films)
    (archive / "long.mpg").write_bytes(data * 3)
    arguments = (archive, memory, "video.part_s=24")
    job = start_index(*arguments)
    wait_for_parts(memory, 2)
    name = "ray::MapWorker(MapBatches(InOrderStage"
    pids = descendants_named(job.pid, name) if who == "worker" else [job.pid]
    assert pids, "no worker to kill"
    os.kill(pids[0], signal.SIGKILL)
    before = {row["part"]: row["updated_at"] for row in parts_of(memory) if row["num_events"]}
    if who == "job":
        job.wait()
        job.stdout.close()
        (video,) = MemoryStore.open(MemoryConfig(uri=str(memory))).videos().to_pylist()
        assert video["error_class"] == PARTS_MISSING
        job = start_index(*arguments)
    report = finish(job)
    assert (report["indexed"], report["failed"]) == (1, 0), report
    store = MemoryStore.open(MemoryConfig(uri=str(memory)))
    parts = store.parts().to_pylist()
    assert len(before) < len(parts)
    assert {row["status"] for row in parts} == {"indexed"}
    after = {row["part"]: row["updated_at"] for row in parts}
    assert {part: after[part] for part in before} == before, "a part was done twice"
    (video,) = store.videos().to_pylist()
    assert video["num_frames"] == 800 * 6
    assert not any("Seam" in warning for warning in video["warnings"])
    ids = [event["event_id"] for event in store.events_of(video["video_id"]).to_pylist()]
    assert len(ids) == len(set(ids)) == video["num_events"]
