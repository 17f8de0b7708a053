"""A real autoscaler on this machine: a head without CPUs, and nodes that it starts and ends.

Ray's own `AutoscalingCluster` runs `ray stop --force` on the machine; this one ends what it
started, and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import descendants_named

ROOT = Path(__file__).resolve().parents[1]
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
IDLE_MINUTES = 0.2


def configuration(gcs: str, *, nodes: int, cpus: int) -> dict:
    """Return a cluster configuration: at most `nodes` nodes with `cpus` CPUs, none at first."""
    provider = {
        "type": "external", "module": PROVIDER, "use_node_id_as_ip": True, "gcs_address": gcs,
        "head_node_id": HEAD_ID, "launch_multiple": True, "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }  # fmt: skip
    store = 128 * 1024**2
    return {
        "cluster_name": "marc-test",
        "max_workers": nodes,
        "upscaling_speed": 20.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": provider,
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": cpus, "object_store_memory": store},
                "node_config": {}, "min_workers": 0, "max_workers": nodes,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
        "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [],
    }  # fmt: skip


@contextmanager
def autoscaling_cluster(folder: Path, *, nodes: int, cpus: int) -> Iterator[str]:
    """Yield the address of a cluster that grows from nothing to `nodes` nodes and back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    config = folder / "cluster.json"
    config.write_text(json.dumps(configuration(address, nodes=nodes, cpus=cpus)))
    environment = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "120",  # 30 are too few on a busy machine
        "PYTHONPATH": str(ROOT),
    }
    log = (folder / "head.log").open("wb")
    head = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
            f"--autoscaling-config={config}", "--num-cpus=0", "--num-gpus=0", f"--port={port}",
            "--node-ip-address=127.0.0.1", "--include-dashboard=false",
            f"--object-store-memory={128 * 1024**2}",
        ],
        env=environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        _wait_for_start(folder / "head.log", head)
        yield address
    finally:
        _end(head)
        log.close()


def _wait_for_start(log: Path, head: subprocess.Popen[bytes], at_most_s: float = 180) -> None:
    end = time.monotonic() + at_most_s
    while time.monotonic() < end:
        assert head.poll() is None, f"the head ended: {log.read_text()[-2000:]}"
        if "Ray runtime started" in log.read_text():
            return
        time.sleep(0.5)
    raise AssertionError(f"no head within {at_most_s} s")


def _end(head: subprocess.Popen[bytes]) -> None:
    """Kill the head and all below it, nodes that the autoscaler started included."""
    below = descendants_named(head.pid, "")
    for pid in [head.pid, *below]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    head.wait()
