"""Two things beside plain load: questions while an index job runs on the same two cores, and what
evidence costs on its way from the retriever to the student.

    python -m benchmarks.serve_beside [--parts indexing evidence] [--seconds 30] [--memory FOLDER]
        [--into FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.clips import hardware
from benchmarks.serve_empty import empty_application
from benchmarks.serve_load import (
    HOST,
    PORT,
    answered_directly,
    idle_cpu_s,
    keep,
    load,
    make_memory,
    options,
    served,
)
from jobs.common import ray_session
from marc_core.evidence import Evidence, VisualRun
from marc_core.world import WorldConfig, sample_video, write_mp4
from serving.config import ServeConfig, UploadConfig

SIZES = (0, 4_000, 100_000, 332_000, 1_000_000)
"""Bytes; 332,000: one frame of the 3B student (81 tokens of 2,048 channels in bfloat16)."""
CALLS = 60


def main() -> None:
    args = options(__doc__, list(PARTS), seconds=30).parse_args()
    with tempfile.TemporaryDirectory() as scratch, ray_session():
        memory = args.memory or make_memory(Path(scratch))
        config = ServeConfig(memory=memory, port=PORT)
        found: dict[str, Any] = {"hardware": hardware()}
        for part in args.parts:
            found[part] = PARTS[part](config, args, Path(scratch))
            keep(args.into, found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def indexing(config: ServeConfig, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Two users of the tiny preset, alone and while uploads are indexed."""
    clip = scratch / "new.mp4"
    write_mp4(sample_video(62_000, WorldConfig(min_scenes=12, max_scenes=12)), clip)
    uploads = UploadConfig(folder=str(scratch / "uploads"))
    with served(dataclasses.replace(config, uploads=uploads)):
        idle = idle_cpu_s()
        alone = load(args.seconds, 2, stream=False, idle=idle)
        with Uploading(clip) as uploading:
            beside = load(args.seconds, 2, stream=False, idle=idle, warm_s=8)
    return {
        "alone": alone,
        "beside_an_index_job": beside,
        "p95_ratio": round(beside["p95_ms"] / alone["p95_ms"], 2),
        "videos_indexed_meanwhile": uploading.done,
    }


class Uploading:
    """Uploads a clip, waits until it is indexed, and uploads it again, in a `with` block."""

    def __init__(self, clip: Path) -> None:
        self.data, self.done, self._stop = clip.read_bytes(), 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Uploading:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx2.Client(base_url=f"http://{HOST}:{PORT}", timeout=120) as http:
            while not self._stop.is_set():
                name = f"/v1/uploads?name=clip{self.done}.mp4"
                job = http.post(name, content=self.data).raise_for_status().json()
                while job["status"] not in ("done", "failed"):
                    if self._stop.wait(0.5):
                        return
                    job = http.get(f"/v1/jobs/{job['job_id']}").json()
                assert job["status"] == "done", job
                self.done += 1


def evidence(config: ServeConfig, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Milliseconds that bytes cost from one deployment over a caller to another, by size."""
    from ray import serve

    data, _ = answered_directly(config, 1)
    own = Evidence.from_bytes(data)
    hops = {}
    with served(config, application=empty_application()):
        first = serve.get_deployment_handle("First", "marc")
        second = serve.get_deployment_handle("Second", "marc")

        def both(size: int) -> None:
            given = first.prepare.remote({"bytes": size}).result(timeout_s=60)
            second.complete.remote(given).result(timeout_s=60)

        for size in SIZES:
            hops[str(size)] = timed(lambda size=size: both(size))
    return {
        "both_hops_ms": hops,
        "above_none_ms": {size: round(ms - hops["0"], 2) for size, ms in hops.items()},
        "to_bytes_ms": {str(s): timed(sized(own, s).to_bytes) for s in SIZES[1:]},
        "from_bytes_ms": {
            str(s): timed(lambda d=sized(own, s).to_bytes(): Evidence.from_bytes(d))
            for s in SIZES[1:]
        },
    }


def sized(own: Evidence, size: int) -> Evidence:
    """Return evidence with tokens of so many bytes, 2,048 channels of two bytes each."""
    import torch

    count = max(1, size // 4096)
    return dataclasses.replace(
        own,
        runs=(VisualRun(ids=own.runs[0].ids, num_tokens=count),),
        tokens_ND=torch.zeros(count, 2048, dtype=torch.bfloat16),
        positions_N3=torch.zeros(count, 3, dtype=torch.int64),
    )


def timed(call: Callable[[], Any]) -> float:
    """Return the median of many calls, ms."""
    for _ in range(5):
        call()
    walls = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        walls.append(time.perf_counter() - started)
    return round(1000 * float(np.median(walls)), 2)


PARTS: dict[str, Callable[[ServeConfig, argparse.Namespace, Path], dict[str, Any]]] = {
    "indexing": indexing, "evidence": evidence,
}  # fmt: skip


if __name__ == "__main__":
    main()
