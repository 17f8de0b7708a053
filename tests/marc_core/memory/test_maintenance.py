import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marc_core.memory import MemoryStore, maintenance
from marc_core.memory.gc import GcPolicy


def versions(store, name):
    return len(store.tables.all()[name].list_versions())


def test_upkeep_changes_no_row(store, fakes):
    for i in range(5):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 3, text="dog", tags=["a"]))
    query = np.ones(fakes.DIM, np.float32)
    before = store.videos(), store.events_of("v3"), fakes.find(store, query)
    store.optimize()
    store.optimize()
    after = store.videos(), store.events_of("v3"), fakes.find(store, query)
    assert before[:2] == after[:2]
    assert [h.event_id for h in before[2]] == [h.event_id for h in after[2]]
    assert store.load_features(["v3:0000:00001"], "m1")


def test_indexes_cover_all_rows_after_upkeep(store, fakes):
    for i in range(3):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 3, text="dog", tags=["a"]))
        store.optimize()
    for name, columns in maintenance.SCALAR_INDEXES.items():
        indexes = {i.columns[0]: i for i in store.tables.all()[name].list_indices()}
        assert sorted(indexes) == sorted(columns)
        assert [i.num_unindexed_rows for i in indexes.values()] == [0] * len(columns)


def test_upkeep_of_an_empty_memory(store):
    store.optimize()
    assert store.status()["events"] == 0


def test_publishing_works_on_partly_indexed_tables(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 3))
    store.optimize()
    store.publish(*fakes.tables_of("w", "/w.mp4", 3))
    store.publish(*fakes.tables_of("v", "/v.mp4", 4))
    store.publish(*fakes.tables_of("w", "/w.mp4", 2))
    status = store.status()
    assert (status["videos"], status["events"], status["features"]) == (2, 6, 6)


def test_old_versions_go_only_when_old_enough(store, config, fakes, monkeypatch):
    for _ in range(4):
        store.publish(*fakes.tables_of("v", "/v.mp4", 3))
    before = versions(store, "events")
    hasty = MemoryStore.open(dataclasses.replace(config, keep_versions_s=0.0))
    hasty.optimize()
    assert versions(store, "events") >= before  # never younger than a minute
    monkeypatch.setattr(maintenance, "MIN_KEEP_S", 1e-3)
    hasty.optimize()
    store.refresh()
    assert versions(store, "events") < before
    assert store.events_of("v").num_rows == 3


def disk_bytes(config, name):
    return sum(f.stat().st_size for f in Path(config.uri, f"{name}.lance/data").rglob("*.lance"))


def test_features_are_not_rewritten_by_upkeep(store, config, fakes):
    for i in range(4):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 20))
    before = disk_bytes(config, "features")
    store.optimize()
    assert disk_bytes(config, "features") == before


def files_with(config, mark):
    """Return the memory's files that hold these bytes."""
    every = (f for f in Path(config.uri).rglob("*") if f.is_file())
    return [str(f) for f in every if mark in f.read_bytes()]


def marked(fakes, name, mark, num_events=2):
    """Return the tables of a video with a mark in its pictures, features and words."""
    videos, events, features, _ = fakes.tables_of(name, f"/{name}.mp4", num_events)
    rows = events.to_pylist()
    for row in rows:
        row |= {"thumbnail": mark, "text": f"zq{name}zq"}
    events = pa.Table.from_pylist(rows, schema=events.schema)
    rows = features.to_pylist()
    for row in rows:
        row["data"] = mark + row["data"][len(mark) :]
    features = pa.Table.from_pylist(rows, schema=features.schema)
    return videos, events, features, fakes.texts_table(events.to_pylist())


def test_a_purge_takes_the_bytes_of_deleted_videos_off_the_disk(store, config, fakes, monkeypatch):
    """Two of forty: compaction alone leaves files of which less than a tenth is deleted."""
    monkeypatch.setattr(maintenance, "MIN_KEEP_S", 0.2)
    rng = np.random.default_rng(0)
    marks = [rng.bytes(24) for _ in range(40)]
    each = [marked(fakes, f"v{i}", mark) for i, mark in enumerate(marks)]
    for some in (each[:20], each[20:]):
        store.publish(*map(pa.concat_tables, zip(*some, strict=True)))
    store.gc(GcPolicy())
    for place in (3, 39):
        assert len(files_with(config, marks[place])) >= 2  # events and features
        deleted = store.delete_video(f"v{place}")
        assert deleted == {"videos": 1, "events": 2, "texts": 2, "features": 2}
    store.optimize()
    assert all(files_with(config, marks[place]) for place in (3, 39))
    store.gc(GcPolicy(purge=True))
    for place in (3, 39):
        assert not files_with(config, marks[place])
        assert not files_with(config, f"zqv{place}zq".encode())
    assert not files_with(config, f"/v{place}.mp4".encode())
    assert files_with(config, marks[5])
    for name in ("events", "features", "texts", "videos"):
        assert maintenance.deleted_rows(store.tables.all()[name]) == 0
    assert store.status()["events"] == 76
    assert len(store.load_features(["v1:0000:00001"], "m1")) == 1
    assert fakes.find(store, np.ones(16), text="zqv7zq", k=1)[0].video_id == "v7"
    assert {i.num_unindexed_rows for i in store.tables.events.list_indices()} == {0}


def test_a_deletion_may_purge_at_once_and_readers_go_on(store, config, fakes, monkeypatch):
    monkeypatch.setattr(maintenance, "MIN_KEEP_S", 1.5)
    mark = np.random.default_rng(1).bytes(24)
    store.publish(*marked(fakes, "gone", mark))
    store.publish(*fakes.tables_of("v", "/v.mp4", 5))
    reader = MemoryStore.open(config)
    with ThreadPoolExecutor(1) as pool:
        purge = pool.submit(store.delete_video, "gone", purge=True)
        while not purge.done():
            assert {h.video_id for h in fakes.find(reader, np.ones(16), k=5)} <= {"v", "gone"}
        purge.result()
    assert not files_with(config, mark)
    assert len(fakes.find(reader, np.ones(16), k=9)) == 5


@pytest.mark.slow
def test_upkeep_is_due_when_many_commits_left_many_files(store, fakes, monkeypatch):
    monkeypatch.setitem(maintenance._PIECES, "events", (6, 2))
    done = []
    for i in range(30):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 2))
        done.append(store.optimize_if_due())
    assert done.index(True) == 5  # six files
    assert 2 <= sum(done) <= 4  # the more commits, the more files are allowed
    assert store.status()["events"] == 60
    assert len(store.load_features([f"v{i}:0000:00001" for i in range(30)], "m1")) == 30


def test_small_caches_find_the_same(store, config, fakes):
    for i in range(3):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 4))
    small = MemoryStore.open(config, cache_bytes=1024)
    small.publish(*fakes.tables_of("v1", "/1.mp4", 2))
    assert small.status()["events"] == 10
    assert small.events_of("v2").equals(store.events_of("v2"))


def test_the_vector_index_is_trained_anew_when_the_table_has_grown(store, config, fakes):
    small = MemoryStore.open(dataclasses.replace(config, vector_index_rows=300))

    def trained():
        store.refresh()
        events = store.tables.events
        return [i.name for i in events.list_indices() if i.columns == ["embedding"]]

    store.publish(*fakes.tables_of("v0", "/0.mp4", 299))
    small.optimize()
    assert trained() == []
    store.publish(*fakes.tables_of("v1", "/1.mp4", 1))
    small.optimize()
    assert trained() == ["embedding_300"]
    store.publish(*fakes.tables_of("v2", "/2.mp4", 600))
    small.optimize()
    assert trained() == ["embedding_300"]
    store.publish(*fakes.tables_of("v3", "/3.mp4", 300))
    small.optimize()
    assert trained() == ["embedding_1200"]


def test_upkeep_while_others_write(store, config, fakes):
    def write(first):
        mine = MemoryStore.open(config)
        for i in range(first, first + 8):
            mine.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 3, text="dog"))

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, first) for first in (0, 100)]
        upkeep = pool.submit(lambda: [store.optimize() for _ in range(4)])
        for task in (*writers, upkeep):
            task.result()
    status = store.status()
    assert (status["videos"], status["events"], status["features"]) == (16, 48, 48)
    assert len(store.load_features([f"v{i}:0000:00002" for i in range(8)], "m1")) == 8


def test_deletions_are_known_so_that_training_takes_fewer_samples(store, fakes):
    """LanceDB 0.40 trains for minutes on a large file with a few deleted rows."""
    both = zip(*(fakes.tables_of(v, f"/{v}.mp4", 6) for v in "vw"), strict=True)
    store.publish(*(pa.concat_tables(pair) for pair in both))
    assert maintenance.deleted_rows(store.tables.events) == 0
    store.delete_video("v")
    store.refresh()
    assert maintenance.deleted_rows(store.tables.events) == 6
