"""A writer's life: time of a commit and memory, over many commits; and videos a second by the
number of videos in a commit.

    python -m benchmarks.commits [--commits 1000]
    python -m benchmarks.commits --rates        videos a second at 4 and 256 videos a commit

Publishes four made-up videos a commit (three events each, thumbnails of 15 kB, features of 36 kB a
event) through `Writer`, as an indexing job's writer does, and then through the same class with
upkeep, cache limit and the writer's environment switched off. Medians for every hundred commits;
memory is private (RssAnon).
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import torch

from benchmarks.clips import hardware
from benchmarks.processes import private_mib
from marc_core import schemas
from marc_core.config import IndexConfig, load_config
from marc_core.feature_rows import features_row
from marc_core.memory import MemoryStore
from marc_core.types import EventFeatures
from pipelines import stages, writing

DIM, EVENTS, VIDEOS = 128, 3, 4
NUMBERS = itertools.count()


def rows(rng: np.random.Generator) -> dict[str, object]:
    """Return one video as an INDEXED row."""
    video_id = f"video{next(NUMBERS):08d}"
    video = {
        "video_id": video_id, "uri": f"/archive/{video_id}.mp4", "size_bytes": 1, "version": "1",
        "status": schemas.INDEXED, "attempts": 1, "num_events": EVENTS, "duration_s": 15.0,
        "folder": "/archive", "num_parts": 1, "cuts_fingerprint": "c",
        "embeddings_fingerprint": "e", "indexed_at": dt.datetime.now(dt.UTC),
    }  # fmt: skip
    events = [
        {
            "event_id": schemas.make_event_id(video_id, 0, i), "video_id": video_id, "part": 0,
            "index": i, "video_start_s": 0.0, "folder": "/archive",
            "start_s": 5.0 * i, "end_s": 5.0 * i + 5, "boundary_kind": "shot",
            "boundary_score": 0.9, "frame_times_s": [5.0 * i],
            "embedding": rng.standard_normal(DIM).astype(np.float32),
            "thumbnail": rng.bytes(15_000),
        }
        for i in range(EVENTS)
    ]  # fmt: skip
    given = EventFeatures(
        groups_TPD=torch.randn(2, 9, 1024, dtype=torch.bfloat16),
        grid_hw=(3, 3),
        times_T=torch.tensor([0.5, 2.5]),
        num_source_groups=2,
    )
    features = [features_row(e["event_id"], video_id, "m", given) for e in events]
    tables = {
        "videos": pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        "events": pa.Table.from_pylist(events, schema=schemas.events_schema(DIM)),
        "texts": schemas.TEXTS.empty_table(),
        "features": pa.Table.from_pylist(features, schema=schemas.FEATURES),
    }
    ipc = {name: stages.to_ipc(table) for name, table in tables.items()}
    return {"video_id": video_id, "failed": False, "parts": None, **ipc}


def write(commits: int, plain: bool) -> list[dict[str, float]]:
    """Return the medians of every hundred commits into a new memory."""
    if plain:
        writing.WRITER_CACHE_BYTES = None
        writing.LOOK_EVERY_COMMITS = commits + 1
    rng, times, result = np.random.default_rng(0), [], []
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(IndexConfig, overrides=[f"memory.uri='{folder}/memory'"])
        MemoryStore.open(config.memory, embedding_dim=DIM, create=True)
        writer = writing.Writer(config, DIM)
        for n in range(1, commits + 1):
            made = [rows(rng) for _ in range(VIDEOS)]
            started = time.perf_counter()
            writer.commit(made)
            times.append(time.perf_counter() - started)
            if n % 100 == 0:
                last = times[-100:]
                result.append(
                    {
                        "commits": n,
                        "ms_median": round(1e3 * statistics.median(last), 1),
                        "ms_mean": round(1e3 * statistics.fmean(last), 1),
                        "private_mib": round(private_mib("self")),
                    }
                )
    return result


def rates(videos: int = 1024) -> dict[str, object]:
    """Return videos a second, and a CPU second, of `publish` at 4 and 256 a commit, interleaved,
    median of 3."""
    rng, names = np.random.default_rng(0), ("videos", "events", "features", "texts")
    seconds: dict[int, list[tuple[float, float]]] = {4: [], 256: []}
    for _ in range(3):
        made = [rows(rng) for _ in range(videos)]
        for size, times in seconds.items():
            batches = [
                [pa.concat_tables([stages.from_ipc(r[name]) for r in made[i : i + size]])
                 for name in names]
                for i in range(0, videos if size > 4 else videos // 8, size)
            ]  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                config = load_config(IndexConfig, overrides=[f"memory.uri='{folder}/memory'"])
                store = MemoryStore.open(config.memory, embedding_dim=DIM, create=True)
                started, cpu = time.perf_counter(), time.process_time()
                for batch in batches:
                    store.publish(*batch)
                count = sum(b[0].num_rows for b in batches)
                spent = time.perf_counter() - started, time.process_time() - cpu
                times.append((spent[0] / count, spent[1] / count))
    per_second, per_cpu_second = (
        {size: round(1 / statistics.median(t[i] for t in times)) for size, times in seconds.items()}
        for i in (0, 1)
    )
    return {
        "videos_per_second": per_second,
        "videos_per_cpu_second": per_cpu_second,
        "ratio": round(per_second[256] / per_second[4], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--plain-commits", type=int, default=400, help="without upkeep: slow")
    parser.add_argument("--rates", action="store_true", help="videos a second only")
    parser.add_argument("--one", choices=("writer", "plain"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rates:
        print(json.dumps({"hardware": hardware(), "events_per_video": EVENTS} | rates(), indent=1))
        return
    if args.one:
        print(json.dumps(write(args.commits, args.one == "plain")))
        return
    found = {}
    for name, commits in (("writer", args.commits), ("plain", args.plain_commits)):
        command = [sys.executable, "-m", "benchmarks.commits", "--one", name]
        command += ["--commits", str(commits)]  # each in a process of its own: memory
        environment = os.environ | (writing.WRITER_ENV if name == "writer" else {})
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
        found[name] = json.loads(run.stdout)
    result = {"hardware": hardware(), "videos_per_commit": VIDEOS, "events_per_video": EVENTS}
    print(json.dumps(result | found, indent=1))


if __name__ == "__main__":
    main()
