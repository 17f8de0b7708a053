import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from marc_core.memory import MemoryStore, maintenance


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
    monkeypatch.setattr(maintenance, "_MIN_KEEP_S", 1e-3)
    hasty.optimize()
    store.refresh()
    assert versions(store, "events") < before
    assert store.events_of("v").num_rows == 3


def disk_bytes(config, name):
    return sum(f.stat().st_size for f in Path(config.uri, f"{name}.lance/data").rglob("*.lance"))


def test_features_are_not_rewritten_by_upkeep_but_purged_on_demand(
    store, config, fakes, monkeypatch
):
    monkeypatch.setattr(maintenance, "_MIN_KEEP_S", 1e-3)
    hasty = MemoryStore.open(dataclasses.replace(config, keep_versions_s=0.0))
    for i in range(4):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}.mp4", 20))
    before = disk_bytes(config, "features")
    hasty.optimize()
    assert disk_bytes(config, "features") == before
    store.publish(*fakes.tables_of("both", "/both.mp4", 20))
    store.delete_video("v0")
    hasty.optimize(purge=True)
    one = before / 4
    assert disk_bytes(config, "features") < before + 0.5 * one
    assert store.load_features(["v1:0000:00019"], "m1")


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
    assert maintenance._deleted_rows(store.tables.events) == 0
    store.delete_video("v")
    store.refresh()
    assert maintenance._deleted_rows(store.tables.events) == 6
