"""What is lost when replicas are killed, deployed anew, added and taken away, under load of whole
answers, streams, and streams that their readers leave: nothing without an error to retry."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.timed_engine import ANSWER, TimedEngine
from serving.config import ReplicaConfig, ServeConfig
from tests.serving.askers import Askers
from tests.serving.test_serve import free_port

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
TEXT = "".join(ANSWER)
PARTS = ("gateway", "retriever", "student")


@pytest.fixture(scope="module")
def config(
    ray_cluster: None, small_memory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeConfig]:
    from ray import serve

    folder = tmp_path_factory.mktemp("survival")
    shutil.copytree(small_memory / "runs" / "memory", folder / "memory")
    two = ReplicaConfig(
        num_cpus=0.1, min_replicas=2, max_replicas=2, max_ongoing=32, max_queued=64, drain_s=20
    )
    found = ServeConfig(
        memory=str(folder / "memory"), port=free_port(), gateway=two, retriever=two, student=two
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": found.host, "port": found.port})
    deploy(found)
    yield found
    serve.shutdown()


def deploy(config: ServeConfig) -> None:
    from ray import serve

    from serving.app import application

    made = application(config, lambda _: TimedEngine())  # type: ignore[arg-type,return-value]
    serve.run(made, name="marc", route_prefix="/")


def address(config: ServeConfig) -> str:
    return f"http://{config.host}:{config.port}"


def replicas(part: str) -> dict[str, int]:
    """Return the running replicas of a part: their names, and their processes."""
    import ray

    pids = {}
    for named in ray.util.list_named_actors(all_namespaces=True):
        if f"marc#{part}#" in named["name"]:
            try:
                actor = ray.get_actor(named["name"], namespace="serve")
                pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=20)
            except (ValueError, ray.exceptions.RayError):
                continue  # it is going
            pids[named["name"]] = pid
    return pids


def eventually(state: Callable[[], bool], timeout_s: float = 120.0) -> None:
    ends = time.monotonic() + timeout_s
    while not state():
        assert time.monotonic() < ends
        time.sleep(0.3)


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_replica_loses_nothing_without_a_word(config: ServeConfig, part: str) -> None:
    before = replicas(part)
    with Askers(address(config), 9, answer=TEXT) as askers:
        askers.wait(20)
        os.kill(next(iter(before.values())), signal.SIGKILL)
        askers.wait(40)
        eventually(lambda: len(replicas(part).keys() - before.keys()) == 1)
        askers.wait(20)
    print(dict(askers.ends))
    assert askers.lost == []
    again = sum(count for end, count in askers.ends.items() if " again:" in end)
    assert again <= 12, dict(askers.ends)  # at most what was under way in that replica, or about


def test_a_rolling_redeploy_loses_nothing(config: ServeConfig) -> None:
    before = {part: replicas(part) for part in PARTS}
    limits = dataclasses.replace(config.limits, retry_after_s=2)
    with Askers(address(config), 9, answer=TEXT) as askers:
        askers.wait(20)
        deploy(dataclasses.replace(config, limits=limits))
        eventually(lambda: not any(replicas(p).keys() & before[p].keys() for p in PARTS))
        askers.wait(20)
    print(dict(askers.ends))
    assert askers.lost == []
    again = sum(count for end, count in askers.ends.items() if " again:" in end)
    assert again <= 9, dict(askers.ends)  # one of each asker, where a gateway is cut short


def test_replicas_go_up_under_load_and_down_after_it(config: ServeConfig) -> None:
    student = dataclasses.replace(
        config.student, min_replicas=1, max_replicas=3, target_ongoing=2.0, upscale_delay_s=1.0,
        downscale_delay_s=3.0,
    )  # fmt: skip
    deploy(dataclasses.replace(config, student=student))
    eventually(lambda: len(replicas("student")) == 1)
    with Askers(address(config), 9, answer=TEXT) as askers:
        eventually(lambda: len(replicas("student")) == 3)
        askers.wait(20)
    eventually(lambda: len(replicas("student")) == 1)
    with Askers(address(config), 2, answer=TEXT) as after:
        after.wait(4)
    print(dict(askers.ends))
    assert askers.lost == after.lost == []
