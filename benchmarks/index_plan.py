"""Planning of large archives: seconds and memory for a first run and for one that resumes.

    python -m benchmarks.index_plan                  20,000 and 1,000,000 videos, no Ray
    python -m benchmarks.index_plan --put 20000      and Ray's share: the blocks into its store

Sources are made one by one, as a listing makes them; the known states are a table as the memory
returns it. The states of a real memory of so many videos are read with `--memory N`, which first
writes N rows into one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.clips import hardware
from marc_core import schemas
from marc_core.config import IndexConfig, MemoryConfig
from marc_core.fingerprints import Fingerprints
from marc_core.types import VideoSource
from pipelines.blocks import deal
from pipelines.plan import collect, plan_work, verdict

NOW = Fingerprints(cuts="cuts", embeddings="embeddings", features="features")
ACTORS = 16


def listed(count: int) -> Iterator[VideoSource]:
    """Yield sources as a listing does; sizes as in an archive of mostly short clips."""
    sizes = np.random.default_rng(0).lognormal(14, 1.5, count).astype(np.int64)
    for i in range(count):
        uri, size = f"/archive/camera{i % 100:02d}/2026-01-01/clip{i:07d}.mp4", int(sizes[i])
        key = schemas.make_video_id(uri, size, "1")
        yield VideoSource(video_id=key, uri=uri, size_bytes=size, version="1")


def rows(count: int) -> pa.Table:
    """Return `videos` rows of all but every thousandth: indexed, some failed."""
    known = [s for i, s in enumerate(listed(count)) if i % 1000]
    n = len(known)
    failed = np.arange(n) % 50 == 0
    fixed = {
        "video_id": [s.video_id for s in known],
        "uri": [s.uri for s in known],
        "size_bytes": [s.size_bytes for s in known],
        "version": ["1"] * n,
        "status": np.where(failed, "failed", "indexed"),
        "error_class": pa.array(np.where(failed, "unreadable", "none")),
        "attempts": pa.array([1] * n, pa.int32()),
        "cuts_fingerprint": ["cuts"] * n,
        "embeddings_fingerprint": ["embeddings"] * n,
        "features_fingerprint": ["features"] * n,
        "indexed_at": pa.array([0] * n, pa.timestamp("us", tz="UTC")),
    }
    columns = [
        pa.array(fixed[f.name], f.type) if f.name in fixed else pa.nulls(n, f.type)
        for f in schemas.VIDEOS
    ]
    return pa.Table.from_arrays(columns, schema=schemas.VIDEOS)


def plan(count: int, states: pa.Table) -> dict[str, Any]:
    """Return seconds of listing, planning and dealing `count` videos."""
    config, started, cpu = IndexConfig(), time.perf_counter(), time.process_time()
    found = collect(listed(count))
    after_listing = time.perf_counter()
    made = plan_work(found, states, partial(verdict, NOW, config))
    after_plan = time.perf_counter()
    blocks = deal(made.work, ACTORS)
    ended = time.perf_counter()
    return {
        "listing_s": round(after_listing - started, 2),
        "plan_s": round(after_plan - after_listing, 2),
        "deal_s": round(ended - after_plan, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "work": made.work.num_rows,
        "blocks": len(blocks),
        "why": dict(made.why),
    }


def one(count: int, kind: str) -> dict[str, Any]:
    """Return the figures of one run: `first`, `resume` (states in memory) or `memory`."""
    from marc_core.memory import MemoryStore

    if kind == "memory":
        with tempfile.TemporaryDirectory() as folder:
            config = MemoryConfig(uri=f"{folder}/memory")
            write_memory(config, count)
            started = time.perf_counter()
            states = MemoryStore.open(config).video_states()
            read_s = time.perf_counter() - started
            result = plan(count, states) | {"states_s": round(read_s, 2)}
    else:
        states = rows(count if kind == "resume" else 0).select(_state_columns())
        result = plan(count, states)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result | {"peak_mib": round(peak)}


def _state_columns() -> list[str]:
    from marc_core.memory.reader import STATES

    return list(STATES)


def write_memory(config: MemoryConfig, count: int) -> None:
    """Write the rows in a process of its own, so that its memory is not counted here."""
    code = (
        "import sys\n"
        "from benchmarks.index_plan import rows\n"
        "from marc_core.config import MemoryConfig\n"
        "from marc_core.memory import MemoryStore\n"
        "store = MemoryStore.open(MemoryConfig(uri=sys.argv[1]), embedding_dim=4, create=True)\n"
        "store.tables.videos.add(rows(int(sys.argv[2])))\n"
    )
    subprocess.run([sys.executable, "-c", code, config.uri, str(count)], check=True)


def put(count: int) -> dict[str, Any]:
    """Return the seconds of handing the blocks of a first run to Ray."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    blocks = deal(collect(listed(count)), ACTORS)
    started = time.perf_counter()
    ray.data.from_blocks(blocks)
    return {"put_s": round(time.perf_counter() - started, 2), "blocks": len(blocks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[20_000, 1_000_000])
    parser.add_argument("--put", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--one", nargs=2, metavar=("COUNT", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        count, kind = int(args.one[0]), args.one[1]
        print(json.dumps(put(count) if kind == "put" else one(count, kind)))
        return
    runs = [(count, kind) for count in args.counts for kind in ("first", "resume")]
    runs += [(args.memory, "memory")] if args.memory else []
    runs += [(args.put, "put")] if args.put else []
    result: dict[str, Any] = {"hardware": hardware(), "actors": ACTORS}
    for count, kind in runs:  # each in a process of its own: memory
        command = [sys.executable, "-m", "benchmarks.index_plan", "--one", str(count), kind]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
        result[f"{kind} {count:,}"] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
