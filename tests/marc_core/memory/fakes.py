"""Rows of videos that never were; also a program: `python fakes.py URI ROLE ...` is a writer.

Loaded by conftest.py and run by the tests that need other processes.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from marc_core import schemas
from marc_core.archive import SearchHit
from marc_core.config import MemoryConfig, RetrieveConfig
from marc_core.digest import frames_digest
from marc_core.feature_rows import features_row
from marc_core.memory import MemoryStore, embeddings, publishing, search
from marc_core.question import EventFilter, SearchQuery
from marc_core.types import EventFeatures

DIM = 16


def video_row(video_id: str, uri: str, num_events: int | None = 1, **values: Any) -> dict[str, Any]:
    row = {
        "video_id": video_id,
        "uri": uri,
        "size_bytes": 1,
        "version": "1",
        "status": "indexed",
        "attempts": 1,
        "num_events": num_events,
        "duration_s": 36.0,
        "num_parts": None if num_events is None else 1,
        "folder": schemas.folder_of(uri),
        "warnings": [],
        "cuts_fingerprint": "c1",
        "embeddings_fingerprint": "e1",
        "features_fingerprint": "m1",
        "texts_fingerprint": "t1",
        "indexed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }
    return row | values


def event_row(video_id: str, index: int, **values: Any) -> dict[str, Any]:
    rng = np.random.default_rng([index, *video_id.encode()])
    row = {
        "event_id": schemas.make_event_id(video_id, 0, index),
        "video_id": video_id,
        "part": 0,
        "index": index,
        "video_start_s": 0.0,
        "folder": "",
        "start_s": float(index),
        "end_s": index + 1.0,
        "boundary_kind": "shot",
        "boundary_score": 0.5,
        "frame_times_s": [float(index)],
        "embedding": rng.standard_normal(DIM).astype(np.float32),
        "thumbnail": b"jpeg of " + str(index).encode(),
    }
    return row | values


def texts_table(events: list[dict[str, Any]]) -> pa.Table:
    """Return a texts row for each event that has a text."""
    rows = [
        {
            "text_id": schemas.make_text_id(event["event_id"], "sidecar", 0),
            "event_id": event["event_id"],
            "video_id": event["video_id"],
            "kind": "sidecar",
            "start_s": event["start_s"],
            "end_s": event["end_s"],
            "text": event["text"],
            "fingerprint": "t1",
        }
        for event in events
        if event.get("text") is not None
    ]
    return pa.Table.from_pylist(rows, schema=schemas.TEXTS)


def features_of(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> EventFeatures:
    generator = torch.Generator().manual_seed(seed)
    return EventFeatures(
        groups_TPD=torch.randn(2, 6, 8, generator=generator).to(dtype),
        grid_hw=(2, 3),
        times_T=torch.tensor([0.25, 1.0]),
        num_source_groups=5,
    )


def tables_of(
    video_id: str, uri: str, num_events: int, model: str = "m1", **event_values: Any
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """Return what `publish` takes for one whole video."""
    folder = schemas.folder_of(uri)
    events = [event_row(video_id, i, folder=folder, **event_values) for i in range(num_events)]
    features = [
        features_row(e["event_id"], video_id, model, features_of(i)) for i, e in enumerate(events)
    ]
    return (
        pa.Table.from_pylist([video_row(video_id, uri, num_events)], schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(DIM)),
        pa.Table.from_pylist(features, schema=schemas.FEATURES),
        texts_table(events),
    )


def find(
    store: MemoryStore,
    vector_D: np.ndarray,
    *,
    text: str | None = None,
    k: int = 3,
    config: RetrieveConfig | None = None,
    filters: EventFilter | None = None,
) -> list[SearchHit]:
    """Return the `k` best hits of one query."""
    query = SearchQuery(text=text, filter=filters or EventFilter(), limit=k)
    (hits,) = search(store, [query], np.stack([vector_D]), config or RetrieveConfig())
    return hits


def write_many(uri: str, names: list[str], rounds: int) -> None:
    """Publish every video `rounds` times, in its own commits. A last name that is JSON is the
    storage options."""
    options = json.loads(names.pop()) if names[-1].startswith("{") else {}
    config = MemoryConfig(uri=uri, storage_options=options)
    store = MemoryStore.open(config, embedding_dim=DIM, create=True)
    for _ in range(rounds):
        for name in names:
            store.publish(*tables_of(name, f"/{name}.mp4", 4, text="said"))


def race(uri: str, rounds: int, ready: Path, go: Path) -> None:
    """Publish one new video a round, each at a moment that the other process knows too."""
    store = MemoryStore.open(MemoryConfig(uri=uri), embedding_dim=DIM, create=True)
    store.publish(*tables_of("warm", "/warm.mp4", 1, text="said"))
    ready.touch()
    while not go.exists():
        time.sleep(0.01)
    start = go.stat().st_mtime + 0.2
    for i in range(rounds):
        time.sleep(max(0.0, start + 0.25 * i - time.time()))
        store.publish(*tables_of(f"v{i}", f"/{i}.mp4", 4, text="said"))


def write_and_die(uri: str, after_commits: int) -> None:
    """Publish a new version of /a.mp4 and be killed after so many merges."""
    real, done = publishing.merge, []

    def merge(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        done.append(1)
        if len(done) == after_commits:
            os.kill(os.getpid(), signal.SIGKILL)

    publishing.merge = merge
    MemoryStore.open(MemoryConfig(uri=uri)).publish(*tables_of("new", "/a.mp4", 3, text="said"))


def vectors_of(
    store: MemoryStore, videos: list[str], encoder: str = "new", dim: int = 24
) -> pa.Table:
    """Return what another encoder makes of all events of these videos, to be staged."""
    rows = [
        {
            "event_id": event["event_id"],
            "video_id": event["video_id"],
            "fingerprint": encoder,
            "frames_digest": frames_digest(np.asarray(event["frame_times_s"])),
            "embedding": new_vector(event["event_id"], encoder, dim),
        }
        for video in videos
        for event in store.events_of(video).to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=schemas.embeddings_schema(dim))


def new_vector(event_id: str, encoder: str = "new", dim: int = 24) -> np.ndarray:
    rng = np.random.default_rng([*encoder.encode(), *event_id.encode()])
    return rng.standard_normal(dim).astype(np.float32)


def switch_and_die(uri: str) -> None:
    """Exchange the vectors for the staged ones, and be killed when the first rows are written."""
    real = embeddings._with_vectors

    def rows(*args: Any) -> Any:
        yield next(real(*args))
        os.kill(os.getpid(), signal.SIGKILL)

    embeddings._with_vectors = rows
    MemoryStore.open(MemoryConfig(uri=uri)).switch_encoder("new", 24, "a: 2\n")


if __name__ == "__main__":
    uri, role, *rest = sys.argv[1:]
    if role == "die":
        write_and_die(uri, int(rest[0]))
    elif role == "switch":
        switch_and_die(uri)
    elif role == "race":
        race(uri, int(rest[0]), Path(rest[1]), Path(rest[2]))
        write_many(uri, rest[4:], int(rest[3]))
    else:
        write_many(uri, rest[1:], int(rest[0]))
