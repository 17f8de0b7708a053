"""Search in memories of 10^4, 10^5 and 10^6 synthetic events: recall@3, latency, build time.

    python -m benchmarks.memory_scale > benchmarks/results/memory_scale.json

Embeddings are clustered (2,000 centres). Three kinds of questions: `same` are drawn like the
events; `gap` are shifted by a common offset, as texts are against images in CLIP-like encoders;
`between` come from other centres, the hardest case. Recall is against brute force in numpy under
the same filter. Every search goes through marc_core.memory.search, uri and thumbnails included.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfRq
from numpy.typing import NDArray

from marc_core import schemas
from marc_core.config import MemoryConfig, RetrieveConfig
from marc_core.memory import MemoryStore, search
from marc_core.question import EventFilter, SearchQuery

DIMS = {10_000: 768, 100_000: 768, 1_000_000: 256}
EVENTS_PER_VIDEO = 50
BATCH = 50_000
CLUSTERS = 2_000
QUERIES = 60
THUMBNAIL_BYTES = 1_000
CAMERAS = [f"camera {i}" for i in range(20)]
TAGS = ["night", "rain", "crowd", "vehicle", "indoor"]
WORDS = [f"word{i}" for i in range(2_000)]
CONFIG = RetrieveConfig()


def unit(x_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def around(
    rng: np.random.Generator, centres: NDArray[np.float32], rows: int
) -> NDArray[np.float32]:
    """Return (rows, D) unit vectors scattered around random centres."""
    noise = rng.standard_normal((rows, centres.shape[1]), dtype=np.float32)
    return unit(centres[rng.integers(0, len(centres), rows)] + 0.5 * noise)


def questions(rng: np.random.Generator, centres: NDArray[np.float32]) -> dict[str, Any]:
    dim = centres.shape[1]
    offset = unit(rng.standard_normal((1, dim), dtype=np.float32))
    others = rng.standard_normal((QUERIES, dim), dtype=np.float32)
    return {
        "same": around(rng, centres, QUERIES),
        "gap": unit(around(rng, centres, QUERIES) + 2 * offset),
        "between": around(rng, others, QUERIES),
    }


def batch_of(
    rng: np.random.Generator, vectors_ED: NDArray[np.float32], first: int
) -> tuple[pa.Table, pa.Table, pa.Table, dict[str, NDArray[Any]]]:
    """Return rows of `videos`, `events` and `texts`, and what brute force filters by."""
    rows, dim = vectors_ED.shape
    position = np.arange(first, first + rows)
    index = position % EVENTS_PER_VIDEO
    video_ids = [f"{p // EVENTS_PER_VIDEO:020x}" for p in position]
    camera = (position // EVENTS_PER_VIDEO) % len(CAMERAS)
    tags = rng.random((rows, len(TAGS))) < 0.3
    words = rng.integers(0, len(WORDS), (rows, 6))
    spoken = rng.random(rows) < 0.2
    picture = rng.bytes(THUMBNAIL_BYTES)
    pairs = zip(video_ids, index.tolist(), strict=True)
    columns = {
        "event_id": [schemas.make_event_id(v, 0, i) for v, i in pairs],
        "video_id": video_ids,
        "part": np.zeros(rows, np.int32),
        "video_start_s": np.zeros(rows),
        "folder": ["/archive"] * rows,
        "index": index,
        "start_s": index * 10.0,
        "end_s": index * 10.0 + 10.0,
        "embedding": pa.FixedSizeListArray.from_arrays(vectors_ED.ravel(), dim),
        "thumbnail": [picture] * rows,
        "text": [
            " ".join(WORDS[w] for w in ws) if s else None
            for ws, s in zip(words, spoken, strict=True)
        ],
        "camera": [CAMERAS[c] for c in camera],
        "tags": [[TAGS[t] for t in np.flatnonzero(row)] for row in tags],
    }  # fmt: skip
    schema = schemas.events_schema(dim)
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(rows, f.type)
              for f in schema]  # fmt: skip
    unique = list(dict.fromkeys(video_ids))
    videos = pa.Table.from_pylist([video_row(v) for v in unique], schema=schemas.VIDEOS)
    facts = {
        "camera": camera,
        "night": tags[:, 0],
        "index": index,
        "video": position // EVENTS_PER_VIDEO,
    }
    return videos, pa.table(arrays, schema=schema), texts_of(columns), facts


def texts_of(columns: dict[str, Any]) -> pa.Table:
    """Return a row for each event that has a text."""
    rows = [
        {"text_id": schemas.make_text_id(event, "speech", 0), "event_id": event, "video_id": video,
         "kind": "speech", "start_s": start, "end_s": start + 10.0, "text": text,
         "fingerprint": "t"}
        for event, video, start, text in zip(
            *(columns[n] for n in ("event_id", "video_id", "start_s", "text")), strict=True
        )
        if text
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.TEXTS)


def video_row(video_id: str) -> dict[str, Any]:
    return {
        "video_id": video_id, "uri": f"/archive/{video_id}.mp4", "size_bytes": 1, "version": "1",
        "status": "indexed", "attempts": 1, "num_events": EVENTS_PER_VIDEO, "duration_s": 500.0,
        "num_parts": 1, "folder": "/archive", "cuts_fingerprint": "c",
        "embeddings_fingerprint": "e", "indexed_at": 0,
    }  # fmt: skip


def fill(store: MemoryStore, rng: np.random.Generator, vectors_ED: NDArray[np.float32]) -> Any:
    """Publish all events; return (seconds, the columns that brute force filters by)."""
    facts, seconds = [], 0.0
    for first in range(0, len(vectors_ED), BATCH):
        videos, events, texts, known = batch_of(rng, vectors_ED[first : first + BATCH], first)
        facts.append(known)
        started = time.perf_counter()
        store.publish(videos, events, None, texts)
        seconds += time.perf_counter() - started
    return seconds, {name: np.concatenate([f[name] for f in facts]) for name in facts[0]}


def filters(facts: dict[str, NDArray[Any]]) -> dict[str, tuple[EventFilter | None, Any]]:
    """Return each kind of filter with the rows that pass it, by brute force."""
    some = np.unique(facts["video"])[:20]
    return {
        "none": (None, np.ones(len(facts["index"]), bool)),
        "camera": (EventFilter(camera=CAMERAS[3]), facts["camera"] == 3),
        "tag": (EventFilter(tags=("night",)), facts["night"]),
        "videos": (
            EventFilter(video_ids=tuple(f"{v:020x}" for v in some)),
            np.isin(facts["video"], some),
        ),
        "camera_tag_time": (
            EventFilter(camera=CAMERAS[3], tags=("night",), start_s=100.0, end_s=300.0),
            (facts["camera"] == 3)
            & facts["night"]
            & (facts["index"] >= 10)
            & (facts["index"] < 30),
        ),
    }


def nearest(
    vectors_ED: NDArray[np.float32], queries_QD: NDArray[np.float32], keep: Any
) -> list[set[int]]:
    rows = np.flatnonzero(keep)
    scores_QR = queries_QD @ vectors_ED[rows].T
    top = np.argpartition(-scores_QR, 3, axis=1)[:, :3]
    return [set(rows[t].tolist()) for t in top]


def timed(
    store: MemoryStore,
    queries_QD: Any,
    truth: list[set[int]] | None,
    *,
    text: str | None = None,
    filters: EventFilter | None = None,
) -> Any:
    """Search with every query; return p50, p95 and, against `truth`, recall@3."""
    seconds, right = [], 0
    query = SearchQuery(text=text, filter=filters or EventFilter(), limit=CONFIG.k)
    search(store, [query], queries_QD[:1], CONFIG)
    for i in range(len(queries_QD)):
        started = time.perf_counter()
        (hits,) = search(store, [query], queries_QD[i : i + 1], CONFIG)
        seconds.append(time.perf_counter() - started)
        if truth is not None:
            rows = {int(h.video_id, 16) * EVENTS_PER_VIDEO + h.index for h in hits}
            right += len(rows & truth[i])
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    report = {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}
    return report | ({"recall_at_3": round(right / 3 / len(queries_QD), 4)} if truth else {})


def measure(rows: int, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    dim = DIMS.get(rows, 256)
    centres = rng.standard_normal((CLUSTERS, dim), dtype=np.float32)
    vectors_ED = np.concatenate(
        [around(rng, centres, min(BATCH, rows - i)) for i in range(0, rows, BATCH)]
    )
    asked = questions(rng, centres)
    # This size always gets an index; the product's threshold decides otherwise for 10^4.
    config = MemoryConfig(uri=str(folder / str(rows)), vector_index_rows=min(rows, 10_000))
    store = MemoryStore.open(config, embedding_dim=dim, create=True)
    write_s, facts = fill(store, rng, vectors_ED)
    report: dict[str, Any] = {"rows": rows, "dim": dim, "write_s": round(write_s, 1)}
    truth = nearest(vectors_ED, asked["same"][:20], np.ones(rows, bool))
    report["flat_before_optimize"] = timed(store, asked["same"][:20], truth)
    started = time.perf_counter()
    store.optimize()
    report["optimize_s"] = round(time.perf_counter() - started, 1)
    report["filters"] = by_filter(store, vectors_ED, asked, facts)
    report["hybrid"] = timed(store, asked["same"], None, text="word17 word423 word1009")
    plain = MemoryStore(store.tables, dataclasses.replace(config, refine_factor=1))
    truth = {kind: nearest(vectors_ED, q, facts["index"] >= 0) for kind, q in asked.items()}
    report["refine_factor_1"] = {k: timed(plain, q, truth[k]) for k, q in asked.items()}
    report["nprobes"] = {n: by_nprobes(store, n, asked, truth) for n in (50, 100, 200)}
    report["index_by_bits"] = {bits: by_bits(store, bits, asked, truth) for bits in (1, 4)}
    started = time.perf_counter()
    videos, events, texts, _ = batch_of(rng, vectors_ED[:EVENTS_PER_VIDEO], 0)
    store.publish(videos, events, None, texts)
    report["publish_one_video_again_ms"] = round((time.perf_counter() - started) * 1000, 1)
    return report


def by_nprobes(store: MemoryStore, nprobes: int, asked: Any, truth: Any) -> dict[str, Any]:
    other = MemoryStore(store.tables, dataclasses.replace(store.config, nprobes=nprobes))
    return {kind: timed(other, q, truth[kind]) for kind, q in asked.items()}


def by_bits(store: MemoryStore, bits: int, asked: Any, truth: Any) -> dict[str, Any]:
    """Build the vector index with codes of so many bits and search with it."""
    events = store.tables.events
    old = [i.name for i in events.list_indices() if i.columns == ["embedding"]]
    started = time.perf_counter()
    config = IvfRq(distance_type="cosine", num_bits=bits)
    events.create_index("embedding", config=config, name=f"embedding_{bits}_bits")
    report: dict[str, Any] = {"build_s": round(time.perf_counter() - started, 2)}
    for name in old:
        events.drop_index(name)
    found = [i for i in events.list_indices() if i.columns == ["embedding"]]
    report["bytes"] = sum(i.size_bytes for i in found)
    return report | {kind: timed(store, q, truth[kind]) for kind, q in asked.items()}


def by_filter(store: MemoryStore, vectors_ED: Any, asked: Any, facts: Any) -> dict[str, Any]:
    report = {}
    for name, (chosen, keep) in filters(facts).items():
        truth = nearest(vectors_ED, asked["same"], keep)
        report[name] = {"share": round(float(keep.mean()), 5)}
        report[name] |= timed(store, asked["same"], truth, filters=chosen)
    return report


def training_after_deletions(rows: int = 200_000, dim: int = 64) -> dict[str, Any]:
    """Return seconds to train the index on a table with and without a few deleted rows."""
    vectors_ED = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(vectors_ED.ravel(), dim)
    report: dict[str, Any] = {"rows": rows, "dim": dim}
    with tempfile.TemporaryDirectory(prefix="marc-memory-") as folder:
        data = pa.table({"id": np.arange(rows), "embedding": column})
        table = lancedb.connect(folder).create_table("t", data)
        for deleted, rate in ((0, 256), (50, 256), (50, 32)):
            table.delete(f"id < {deleted}")
            config = IvfRq(distance_type="cosine", num_bits=4, sample_rate=rate)
            started = time.perf_counter()
            table.create_index("embedding", config=config)
            seconds = round(time.perf_counter() - started, 2)
            report[f"{deleted} deleted, {rate} samples a partition"] = seconds
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {
        "hardware": f"2 cores {platform.machine()}, local disk, shared machine",
        "settings": {"k": CONFIG.k, "nprobes": 50, "refine_factor": 5, "queries": QUERIES,
                     "thumbnail_bytes": THUMBNAIL_BYTES},
        "results": [],
    }  # fmt: skip
    for rows in options.rows:
        folder = Path(tempfile.mkdtemp(prefix="marc-memory-"))
        try:
            report["results"].append(measure(rows, folder))
        finally:
            shutil.rmtree(folder)
        if options.out:
            options.out.write_text(json.dumps(report, indent=1) + "\n")
        sys.stderr.write(f"{rows} rows done\n")
    report["training_after_deletions"] = training_after_deletions()
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
