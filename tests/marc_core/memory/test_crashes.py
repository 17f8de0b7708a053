"""Several writers, and writers that die: nothing lost, nothing twice, nothing half visible."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.feature_rows import features_row
from marc_core.memory import MemoryStore, publishing
from marc_core.memory.gc import GcPolicy
from marc_core.memory.tables import with_retries

PROGRAM = Path(__file__).with_name("fakes.py")


def start(*arguments):
    command = [sys.executable, "-W", "error", str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def keys(store):
    store.refresh()
    columns = {
        "videos": "video_id", "events": "event_id", "texts": "text_id", "features": "feature_id",
    }  # fmt: skip
    return {
        name: sorted(store.tables.all()[name].search().to_arrow()[key].to_pylist())
        for name, key in columns.items()
    }


def expected(*videos):
    events = sorted(schemas.make_event_id(v, 0, i) for v, n in videos for i in range(n))
    return {
        "videos": sorted(v for v, _ in videos),
        "events": events,
        "texts": [f"{e}:sidecar:000" for e in events],
        "features": [f"{e}@m1" for e in events],
    }


def test_two_processes_at_once_lose_and_double_nothing(config, tmp_path):
    """They create the memory together, insert the same videos at the same moments (without declared
    primary keys this doubles rows), and then write others, of which they share half."""
    go = tmp_path / "go"
    flags = [tmp_path / f"ready{i}" for i in range(2)]
    writers = [
        start(config.uri, "race", 3, flag, go, 2, "both1", "both2", f"{own}1", f"{own}2")
        for flag, own in zip(flags, "ab", strict=True)
    ]
    deadline = time.monotonic() + 60
    while not all(f.exists() for f in flags) and time.monotonic() < deadline:
        time.sleep(0.01)
    go.touch()
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    names = ("v0", "v1", "v2", "both1", "both2", "a1", "a2", "b1", "b2")
    assert keys(MemoryStore.open(config)) == expected(("warm", 1), *((n, 4) for n in names))


def visible(store, fakes):
    """Return {uri: number of its events that a search can find}."""
    hits = fakes.find(store, np.ones(fakes.DIM, np.float32), k=100)
    uris = [hit.uri for hit in hits]
    assert len({h.event_id for h in hits}) == len(hits)
    return {uri: uris.count(uri) for uri in set(uris)}


@pytest.mark.parametrize(
    ("commits", "seen"),
    [
        *(pytest.param(n, "old", marks=pytest.mark.slow) for n in (1, 2, 3, 5)),
        (6, "new"),
    ],
)
def test_a_killed_writer_leaves_the_old_or_the_new_version(store, fakes, commits, seen):
    store.publish(*fakes.tables_of("old", "/a.mp4", 5, text="said"))
    store.publish(*fakes.tables_of("other", "/b.mp4", 2, text="said"))
    writer = start(store.config.uri, "die", commits)
    writer.communicate(timeout=60)
    assert writer.returncode == -9
    store.refresh()
    assert visible(store, fakes) == {"/a.mp4": 5 if seen == "old" else 3, "/b.mp4": 2}
    assert store.get_video("/a.mp4")["video_id"] == seen
    store.publish(*fakes.tables_of("new", "/a.mp4", 3, text="said"))
    if seen == "old":
        assert keys(store) == expected(("new", 3), ("other", 2))
    else:
        assert store.gc(GcPolicy(orphans=True)) == {"events": 5, "features": 5, "texts": 5}
        assert keys(store) == expected(("new", 3), ("other", 2))


class Crash(Exception):
    pass


def crash_after(monkeypatch, commits):
    """Let the next publish fail after so many merges."""
    real, done = publishing.merge, []

    def merge(*args, **kwargs):
        real(*args, **kwargs)
        done.append(1)
        if len(done) == commits:
            raise Crash

    monkeypatch.setattr(publishing, "merge", merge)


@pytest.mark.parametrize("commits", range(1, 7))
@pytest.mark.parametrize("events_before", [0, 2, pytest.param(7, marks=pytest.mark.slow)])
def test_a_rerun_after_any_crash_completes_a_resegmentation(
    store, fakes, monkeypatch, commits, events_before
):
    if events_before:
        store.publish(*fakes.tables_of("v", "/v.mp4", events_before, text="said"))
    with monkeypatch.context() as patch:
        crash_after(patch, commits)
        with pytest.raises(Crash):
            store.publish(*fakes.tables_of("v", "/v.mp4", 4, text="said"))
    seen = visible(store, fakes).get("/v.mp4", 0)
    if commits == 6 or (commits >= 3 and events_before):
        assert seen == 4
    else:
        assert seen == events_before
    store.publish(*fakes.tables_of("v", "/v.mp4", 4, text="said"))
    assert keys(store) == expected(("v", 4))


def cut(fakes, event_s, num_events):
    """Return a video cut into events of `event_s`; its features tell their cut by their times."""
    videos, events, *_ = fakes.tables_of("v", "/v.mp4", num_events)
    rows, features = events.to_pylist(), []
    for row in rows:
        row |= {"start_s": row["index"] * event_s, "end_s": (row["index"] + 1) * event_s}
        times = torch.tensor([row["start_s"], row["end_s"]])
        its = dataclasses.replace(fakes.features_of(), times_T=times)
        features.append(features_row(row["event_id"], "v", "m1", its))
    return (
        videos,
        pa.Table.from_pylist(rows, schema=events.schema),
        pa.Table.from_pylist(features, schema=schemas.FEATURES),
        fakes.texts_table(rows),
    )


@pytest.mark.parametrize("commits", range(1, 7))
@pytest.mark.parametrize(
    "num_events", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 6))]
)
def test_no_event_ever_has_features_or_texts_of_another_cut(
    store, fakes, monkeypatch, commits, num_events
):
    store.publish(*cut(fakes, 10.0, 4))
    with monkeypatch.context() as patch:
        crash_after(patch, commits)
        with pytest.raises(Crash):
            store.publish(*cut(fakes, 7.0, num_events))
    for _ in range(2):
        events = store.events_of("v").to_pylist()
        found = store.load_features([e["event_id"] for e in events], "m1")
        for event in events:
            if event["event_id"] in found:
                times = found[event["event_id"]].times_T.tolist()
                assert times == [event["start_s"], event["end_s"]]
            for text in store.texts_of([event["event_id"]]).to_pylist():
                assert (text["start_s"], text["end_s"]) == (event["start_s"], event["end_s"])
                assert text["text"] == event["text"]
        store.publish(*cut(fakes, 7.0, num_events))
    assert len(found) == num_events


def test_orphans_of_a_crash_that_no_rerun_repeats_can_be_removed(store, fakes, monkeypatch):
    store.publish(*fakes.tables_of("v", "/v.mp4", 2, text="said"))
    with monkeypatch.context() as patch:
        crash_after(patch, 3)
        with pytest.raises(Crash):
            store.publish(*fakes.tables_of("gone", "/gone.mp4", 4, text="said"))
    assert visible(store, fakes) == {"/v.mp4": 2}
    assert store.gc(GcPolicy(orphans=True)) == {"events": 4, "features": 4, "texts": 4}
    assert store.gc(GcPolicy(orphans=True)) == {"events": 0, "features": 0, "texts": 0}
    assert keys(store) == expected(("v", 2))


def test_conflicts_are_retried_a_bounded_number_of_times(monkeypatch):
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    answers = [RuntimeError("Commit conflict for version 7"), OSError("Too many concurrent writes")]

    def commit():
        if answers:
            raise answers.pop()
        return 5

    assert with_retries(commit) == 5
    assert len(pauses) == 2

    def always():
        raise RuntimeError("Retryable commit conflict for version 3")

    with pytest.raises(MemoryStoreError, match="8 times in a row"):
        with_retries(always)
    assert sum(pauses) < 30


def test_other_errors_are_not_retried():
    def commit():
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        with_retries(commit)
