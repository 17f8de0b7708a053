"""Kill -9 of everything that a C-GRPO run consists of; two workers; a lost node.

Each run is a real command on a Ray of its own; losses are compared step by step.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.training.run_log import curve, read_lines
from tests.jobs.training.train_sets import write_train_set
from tests.processes import descendants_named

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[3]
SMALL = (
    "save_every=1", "rollout.questions=4", "rollout.answers=4", "rollout.teacher_answers=2",
    "rollout.max_tokens=8", "loss.kl=0.01", "teacher_ahead=1", "teacher_pool.questions_a_call=2",
    "optimizer.kind=adamw", "trackers=[]", "learner.cpus=0.5", "teacher_pool.cpus=0.5",
    "rollout_pool.cpus=0.5",
)  # fmt: skip
PATIENCE_S = 400


@pytest.fixture(scope="module")
def train_set(tmp_path_factory):
    return write_train_set(tmp_path_factory.mktemp("set") / "rows", 60)


def start(output: Path, train_set: Path, *overrides: str, address: str = "local"):
    """Start the command that people use."""
    output.mkdir(exist_ok=True)
    with (output / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.train_cgrpo", "--address", address,
             f"output={output}", f"train_set={train_set}", *SMALL, *overrides],
            cwd=ROOT,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def finish(driver, output: Path) -> dict[int, list[float]]:
    """Wait for the end of a run; return what each step's loss and gradient were."""
    try:
        assert driver.wait(PATIENCE_S) == 0, (output / "log.txt").read_text()[-3000:]
    finally:
        driver.kill()
    names = ("loss", "grad_norm", "reward", "entropy")
    return {p["step"]: [p[name] for name in names] for p in curve(output)}


def assert_same(
    found: dict[int, list[float]], expected: dict[int, list[float]], rel: float
) -> None:
    assert sorted(found) == sorted(expected)
    for step, values in expected.items():
        assert found[step] == pytest.approx(values, rel=rel, abs=1e-4), f"step {step}"


def wait_for_step(output: Path, step: int, driver) -> None:
    end = time.monotonic() + PATIENCE_S
    while not any(p["step"] >= step for p in curve(output)):
        assert driver.poll() is None, (output / "log.txt").read_text()[-3000:]
        assert time.monotonic() < end, f"step {step} was never done"
        time.sleep(0.1)


def kill(driver, name: str) -> None:
    found = descendants_named(driver.pid, name)
    assert found, f"no process of {name}"
    os.kill(found[0], signal.SIGKILL)


def events(output: Path) -> str:
    return "\n".join(e["event"] for e in read_lines(output / "events.jsonl"))


def test_losses_are_those_of_an_undisturbed_run_whatever_dies(tmp_path, train_set):
    whole, output, steps = tmp_path / "whole", tmp_path / "killed", "steps=14"
    losses = finish(start(whole, train_set, steps, "evaluate_questions=12"), whole)
    assert sorted(losses) == list(range(1, 15))
    assert "Against the student that it started from" in (whole / "report.html").read_text()
    driver = start(output, train_set, steps)
    for step, name in (
        (1, "ray::RolloutActor"), (3, "ray::TeacherActor"), (5, "ray::RayTrainWorker"),
        (8, "ray::Controller"),
    ):  # fmt: skip
        wait_for_step(output, step, driver)
        kill(driver, name)
    wait_for_step(output, 11, driver)
    driver.kill()  # SIGKILL: nothing is tidied up
    driver.wait()
    found = finish(start(output, train_set, steps), output)
    assert_same(found, losses, rel=1e-4)
    said = events(output)
    assert "Actor 0 of the rollout pool died and was started again" in said
    assert "Actor 0 of the teacher pool died and was started again" in said
    assert said.count("Training goes on from the checkpoint of step") >= 3
    assert (output / "student" / "model.safetensors").read_bytes() == (
        whole / "student" / "model.safetensors"
    ).read_bytes()


def test_two_workers_have_the_losses_of_one(tmp_path, train_set):
    """With a copy of the weights each, and with the weights spread over both, of which one dies."""
    one, two, spread = (tmp_path / name for name in ("one", "two", "spread"))
    losses = finish(start(one, train_set, "steps=6"), one)
    found = finish(start(two, train_set, "steps=6", "num_workers=2"), two)
    assert_same(found, losses, rel=1e-3)
    driver = start(spread, train_set, "steps=6", "num_workers=2", "learner.sharded=true")
    wait_for_step(spread, 2, driver)
    kill(driver, "ray::RayTrainWorker")
    assert_same(finish(driver, spread), losses, rel=1e-3)
    assert "Training goes on from the checkpoint of step" in events(spread)


def test_a_lost_node_costs_the_calls_that_it_had(tmp_path, train_set):
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=1)
    pools = [cluster.add_node(num_cpus=2) for _ in range(2)]
    output = tmp_path / "run"
    try:
        driver = start(
            output, train_set, "steps=8", "learner.cpus=0.5", "teacher_pool.cpus=1",
            "rollout_pool.cpus=1", address=cluster.address,
        )  # fmt: skip
        wait_for_step(output, 2, driver)
        lost = next(n for n in pools if hosts(n, "RolloutActor"))
        cluster.remove_node(lost, allow_graceful=False)
        losses = finish(driver, output)
    finally:
        cluster.shutdown()
    assert sorted(losses) == list(range(1, 9))
    assert "rollout pool died and was started again" in events(output)


def hosts(node, name: str) -> bool:
    """Return whether a simulated node runs an actor of this class."""
    raylet = node.all_processes["raylet"][0].process.pid
    return bool(descendants_named(raylet, f"ray::{name}"))


def test_set_teacher_answers_and_checkpoints_may_lie_in_a_bucket(tmp_path, train_set):
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    place = "{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=f"http://{place}", aws_access_key_id="key",
        aws_secret_access_key="secret", region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="runs")
    (rows,) = train_set.rglob("rows/*.parquet")
    client.upload_file(str(rows), "runs", "set/rows/0.parquet")
    store = {"endpoint_override": place, "scheme": "http", "access_key": "key",
             "secret_key": "secret", "region": "us-east-1"}  # fmt: skip
    options = (f"storage_options.{name}='{value}'" for name, value in store.items())
    places = ("checkpoints=s3://runs/kept", "teacher_cache=s3://runs/teacher", *options)
    try:
        first, second = tmp_path / "first", tmp_path / "second"
        finish(start(first, "s3://runs/set", "steps=2", *places), first)
        keys = [x["Key"] for x in client.list_objects_v2(Bucket="runs")["Contents"]]
        assert any(k.startswith("kept/") and k.endswith("weights.safetensors") for k in keys)
        assert any(k.startswith("teacher/") and k.endswith(".jsonl") for k in keys)
        points = finish(start(second, "s3://runs/set", "steps=3", *places), second)
        assert sorted(points) == [3], "another folder, the same checkpoints"
    finally:
        client.close()
        server.stop()
