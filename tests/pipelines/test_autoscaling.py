"""Indexing and training on a real autoscaler, from a cluster without any CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.autoscaler import IDLE_MINUTES, ROOT, autoscaling_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

DRIVER = """
import json, sys, threading, time
import ray
from ray._private.state import actors
from marc_core.config import IndexConfig, load_config
from jobs.ray_session import ray_session
from pipelines.index import index_archive

archive, memory, idle_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
config = load_config(IndexConfig, preset="tiny", overrides=[
    f"archive=['{archive}']", f"memory.uri='{memory}'", "write_videos=1",
    "text.speech=off", "text.writing=off"])
first_done, done = {}, [0]

def workers():
    return [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) > 0]

def watch():
    while True:
        for actor in actors().values():
            if "DecodeStage" in actor["ActorClassName"] and actor["State"] == "ALIVE":
                first_done.setdefault(actor["Address"]["NodeID"], done[0])
        time.sleep(0.3)

with ray_session():
    before = len(workers())
    threading.Thread(target=watch, daemon=True).start()
    def progress(videos, failed, total):
        done[0] = videos
    report = index_archive(config, progress)
    most = len(workers())
    end = time.monotonic() + idle_s
    while workers() and time.monotonic() < end:
        time.sleep(1)
    print(json.dumps({"before": before, "decoded_on": first_done, "after": len(workers()),
                      "indexed": report.indexed}))
"""


def test_an_index_job_grows_from_nothing_and_shrinks_again(
    tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    for i in range(40):
        clip_writer(tmp_path / "archive" / f"{i:02d}.mp4", seconds=60.0, seed=i)
    # Ray Data holds CPUs back for each stage: with one a node, a second decoder has no room.
    with autoscaling_cluster(tmp_path, nodes=3, cpus=4) as address:
        done = subprocess.run(
            [
                sys.executable, "-c", DRIVER, str(tmp_path / "archive"), str(tmp_path / "memory"),
                str(60 * IDLE_MINUTES + 90),
            ],
            env=os.environ | {
                "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"
            },
            cwd=ROOT, capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["before"] == 0
    assert found["indexed"] == 40
    joined_at = sorted(found["decoded_on"].values())
    assert len(joined_at) >= 2, "work on two or more of the added nodes"
    assert 0 < joined_at[-1] < 40, "the last one joined half-way and got work"
    assert found["after"] == 0, "nodes went when they were idle"


TRAINER = """
import json, sys
import ray
from jobs.ray_session import ray_session
from jobs.training.ray_train import fit
from marc_core.training.config import TrainConfig
from tests.jobs.training.line import train_line

with ray_session():
    before = ray.cluster_resources().get("CPU", 0)
    fit(train_line, TrainConfig(output=sys.argv[1], num_workers=1, log_every=1, weight_decay=2))
    print(json.dumps({"before": before}))
"""


def test_training_starts_once_nodes_have_joined(tmp_path: Path) -> None:
    with autoscaling_cluster(tmp_path, nodes=2, cpus=1) as address:
        done = subprocess.run(
            [sys.executable, "-c", TRAINER, str(tmp_path / "run")],
            env=os.environ | {
                "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"
            },
            cwd=ROOT, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"before": 0}
    points = (tmp_path / "run" / "curves.jsonl").read_text().splitlines()
    assert [json.loads(point)["step"] for point in points] == [1, 2]
