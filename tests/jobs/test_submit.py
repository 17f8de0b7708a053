"""`marc submit` and `ray job submit` against a real head node with its job server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import ray, sys
context = ray.init(num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False)
print(context.dashboard_url, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """A head node in a process of its own; yields the address of its job server."""
    bin_dir = Path(sys.executable).parent  # jobs run the `python` of the head's PATH
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        env=os.environ
        | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PATH": f"{bin_dir}:{os.environ['PATH']}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield "http://" + process.stdout.readline().strip()
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", "submit", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_submitted_index_writes_the_memory(
    head: str, tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    clip_writer(tmp_path / "archive" / "a b.mp4")
    archive, memory = str(tmp_path / "archive"), str(tmp_path / "memory")
    result = run("--address", head, "--", "index", archive, "--memory", memory)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCEEDED" in result.stdout + result.stderr
    assert "videos found" in result.stdout + result.stderr
    from marc_core.config import MemoryConfig
    from marc_core.memory import MemoryStore

    (row,) = MemoryStore.open(MemoryConfig(uri=memory)).videos().to_pylist()
    assert (row["status"], row["num_frames"]) == ("indexed", 40)


def test_a_failing_job_fails_the_command(head: str, tmp_path: Path) -> None:
    result = run("--address", head, "--", "index", str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "nowhere" in result.stdout + result.stderr


def test_no_head_is_one_clear_line() -> None:
    result = run("--address", "http://127.0.0.1:9", "--", "status")
    assert result.returncode == 2
    assert "ray start --head" in result.stderr
    assert "Traceback" not in result.stderr
