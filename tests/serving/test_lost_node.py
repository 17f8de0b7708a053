"""Serving on three nodes: replicas spread over them, and a lost node costs retries only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.autoscaler import ROOT
from tests.serving.askers import Askers
from tests.serving.test_serve import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLACES = """
import json, sys, ray
from ray._private.state import actors
ray.init(address=sys.argv[1], log_to_driver=False)
print(json.dumps({
    actor["Name"]: actor["Address"]["NodeID"]
    for actor in actors().values()
    if "::marc#" in actor["Name"] and actor["State"] == "ALIVE"
}))
"""


def test_a_lost_node_costs_retries_only(small_memory: Path, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    shutil.copytree(small_memory / "runs" / "memory", tmp_path / "memory")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    url = f"http://127.0.0.1:{free_port()}"
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        server = serve(cluster.address, url, tmp_path)
        try:
            eventually(lambda: is_ready(url))
            where = places(cluster.address)
            lost = next(node for node in nodes if node.node_id in where.values())
            with Askers(url, 6) as askers:
                askers.wait(10)
                cluster.remove_node(lost, allow_graceful=False)
                eventually(lambda: len(set(places(cluster.address)) - set(where)) > 0)
                askers.wait(30, 240)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(120)
    finally:
        cluster.shutdown()
    print(dict(askers.ends))
    parts = Counter(name.split("#")[1] for name in where)
    assert (parts["retriever"], parts["student"]) == (2, 2), where
    assert len(set(where.values())) == 3, where
    assert askers.lost == [], dict(askers.ends)


def serve(cluster: str, url: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start `marc serve` with two retrievers and two students that fit on two of three nodes."""
    two = [
        f"{part}.{setting}"
        for part in ("retriever", "student")
        for setting in ("min_replicas=2", "max_replicas=2", "num_cpus=0.3")
    ]
    command = [
        sys.executable, "-m", "jobs.cli", "serve", "--memory", str(folder / "memory"),
        "--address", cluster, "--port", url.rpartition(":")[2],
        "--uploads", str(folder / "uploads"), *two, "gateway.num_cpus=0.3",
    ]  # fmt: skip
    with (folder / "server.out").open("wb") as said:
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def places(cluster: str) -> dict[str, Any]:
    """Return the node of each running replica, by its name."""
    command = [sys.executable, "-c", PLACES, cluster]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/ready", timeout=20).status_code == 200
    except httpx2.TransportError:
        return False


def eventually(state: Callable[[], bool], timeout_s: float = 300.0) -> None:
    ends = time.monotonic() + timeout_s
    while not state():
        assert time.monotonic() < ends
        time.sleep(1)
