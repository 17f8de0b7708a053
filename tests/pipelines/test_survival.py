"""Kills in mid-index: workers, the driver, a node, and two jobs at once. Nothing lost or doubled.

Every test runs real processes on Rays of its own and checks the tables afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore
from marc_core.schemas import make_event_id
from tests.encoders import save_encoder
from tests.marc_core.memories import index_videos
from tests.processes import descendants_named

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NUM_VIDEOS = 12


@pytest.fixture
def many(tmp_path: Path, clip_writer: Callable[..., Path]) -> Path:
    """Twelve clips of 400 frames: seconds of work for every stage, so that a kill meets it."""
    for i in range(NUM_VIDEOS):
        clip_writer(tmp_path / "archive" / f"clip{i:02d}.mp4", seconds=40.0, seed=i)
    return tmp_path / "archive"


def start_index(archive: Path, memory: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Start `marc index` in a process group of its own."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "jobs.index", str(archive), "--memory", str(memory), "--json",
            "write_videos=1", "text.speech=off", "text.writing=off", *arguments,
        ],
        cwd=ROOT, env=os.environ | env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def wait_for_rows(memory: Path, rows: int, *, at_most_s: float = 180) -> None:
    """Return when at least `rows` videos are recorded and the job is still in the middle."""
    end = time.monotonic() + at_most_s
    while time.monotonic() < end:
        try:
            if len(MemoryStore.open(MemoryConfig(uri=str(memory))).video_states()) >= rows:
                return
        except MemoryStoreError:
            pass
        time.sleep(0.2)
    pytest.fail(f"no {rows} rows within {at_most_s} s")


def check_complete(memory: Path) -> None:
    """Every video indexed once, with all its events and their features, once."""
    store = MemoryStore.open(MemoryConfig(uri=str(memory)))
    videos = store.videos().to_pylist()
    assert Counter(row["status"] for row in videos) == {"indexed": NUM_VIDEOS}
    assert len({row["uri"] for row in videos}) == NUM_VIDEOS
    events = store.tables.events.search().select(["event_id"]).limit(10**6).to_list()
    keys = ["feature_id", "event_id"]
    features = store.tables.features.search().select(keys).limit(10**6).to_list()
    ids = [row["event_id"] for row in events]
    wanted = [
        make_event_id(row["video_id"], 0, i) for row in videos for i in range(row["num_events"])
    ]
    assert sorted(ids) == sorted(wanted)
    assert {row["event_id"] for row in features} == set(wanted)  # in one piece or two
    assert len({row["feature_id"] for row in features}) == len(features)


def finish(process: subprocess.Popen[str]) -> dict:
    """Wait for a job and return its report; its whole output is the message when it fails."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return json.loads(output[output.index("{\n") :])


@pytest.mark.parametrize(
    "process", ["MapWorker(MapBatches(DecodeStage", "MapWorker(MapBatches(EncodeStage", "Writer"]
)
def test_killed_workers_cost_nothing(many: Path, tmp_path: Path, process: str) -> None:
    memory = tmp_path / "memory"
    job = start_index(many, memory)
    wait_for_rows(memory, 2)
    pids = descendants_named(job.pid, f"ray::{process}")
    assert pids, "no worker to kill"
    os.kill(pids[0], signal.SIGKILL)
    report = finish(job)
    assert report["indexed"] == NUM_VIDEOS, report
    check_complete(memory)


def test_killed_driver_resumes(many: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    job = start_index(many, memory)
    wait_for_rows(memory, 3)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert job.stdout is not None
    job.stdout.close()  # what is left of its Ray holds the other end a little longer
    report = finish(start_index(many, memory))
    assert report["already"] >= 3
    assert report["already"] + report["indexed"] == NUM_VIDEOS
    check_complete(memory)


def wait_for_staged(memory: Path, events: int, *, at_most_s: float = 180) -> None:
    """Return when so many vectors are staged and the job is still in the middle."""
    end = time.monotonic() + at_most_s
    while time.monotonic() < end:
        staged = MemoryStore.open(MemoryConfig(uri=str(memory))).status()["staged"]
        if sum(staged.values()) >= events:
            return
        time.sleep(0.1)
    pytest.fail(f"no {events} staged vectors within {at_most_s} s")


def vectors(memory: Path) -> dict[str, list[float]]:
    table = MemoryStore.open(MemoryConfig(uri=str(memory))).tables.events
    found = table.search().select(["event_id", "embedding"]).to_arrow().to_pydict()
    return dict(zip(found["event_id"], found["embedding"], strict=True))


def test_a_killed_change_of_the_encoder_resumes(many: Path, tmp_path: Path) -> None:
    """And ends as the memory that the other encoder would have made; nothing is embedded twice."""
    memory, fresh, other = tmp_path / "memory", tmp_path / "fresh", tmp_path / "other"
    save_encoder(other, "siglip")
    index_videos(many, memory)
    index_videos(many, fresh, f"encoder.model='{other}'")
    before = vectors(memory)
    arguments = ("only=embeddings", f"encoder.model='{other}'")
    job = start_index(many, memory, *arguments)
    wait_for_staged(memory, 6)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert job.stdout is not None
    job.stdout.close()
    assert vectors(memory) == before, "the old vectors or the new"
    report = finish(start_index(many, memory, *arguments))
    assert 0 < report["embeddings_redone"] < NUM_VIDEOS
    assert report["embeddings_missing"] == 0
    check_complete(memory)
    made, wanted = vectors(memory), vectors(fresh)
    assert made.keys() == wanted.keys() == before.keys()
    for event_id, vector in wanted.items():
        assert made[event_id] == pytest.approx(vector, abs=1e-5)


def test_two_jobs_at_once(many: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    jobs = [start_index(many, memory), start_index(many, memory)]
    for job in jobs:
        finish(job)
    check_complete(memory)


def test_a_lost_node_does_not_stop_the_job(many: Path, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    memory = tmp_path / "memory"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        job = start_index(many, memory, RAY_ADDRESS=cluster.address, PYTHONPATH=str(ROOT))
        wait_for_rows(memory, 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        report = finish(job)
    finally:
        cluster.shutdown()
    assert report["indexed"] == NUM_VIDEOS, report
    check_complete(memory)
