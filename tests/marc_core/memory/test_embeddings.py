"""All vectors of a memory are exchanged at once: the old ones or the new, whatever happens."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.fingerprints import embeddings_name
from marc_core.memory import MemoryStore, changes, embeddings
from marc_core.memory.gc import GcPolicy

PROGRAM = Path(__file__).with_name("fakes.py")
E2 = embeddings_name("new")
FINISHED = {"videos": {E2}, "encoder": ("new", 24), "config": "a: 2\n", "staged": {}}


@pytest.fixture
def store(config, fakes):
    """A memory of encoder "old" with two videos, of 3 and 2 events."""
    store = MemoryStore.open(
        config, embedding_dim=fakes.DIM, encoder_fingerprint="old", create=True
    )
    store.record_run("a: 1\n")
    store.publish(*fakes.tables_of("v", "/v.mp4", 3, text="a dog"))
    store.publish(*fakes.tables_of("w", "/w.mp4", 2, text="a cat"))
    return store


def rows(store, name, without=()):
    key = {"videos": "video_id", "events": "event_id", "texts": "text_id"}.get(name, "feature_id")
    table = store.tables.all()[name].search().to_arrow().sort_by(key)
    return table.drop_columns(list(without)).to_pylist()


def state(config):
    """What a reader that opens the memory now is told."""
    store = MemoryStore.open(config)
    return {
        "videos": set(store.videos()["embeddings_fingerprint"].to_pylist()),
        "encoder": (store.meta.encoder_fingerprint, store.meta.embedding_dim),
        "config": store.last_config(),
        "staged": store.status()["staged"],
    }


def switch(store, dim=24):
    return store.switch_encoder("new", dim, "a: 2\n")


def check_new(store, fakes):
    """Every event has the vector that encoder "new" makes of it, and a search finds by it."""
    events = store.tables.events.search().to_arrow().to_pylist()
    for event in events:
        np.testing.assert_array_equal(event["embedding"], fakes.new_vector(event["event_id"]))
    for event in events[:9]:
        (hit,) = fakes.find(store, fakes.new_vector(event["event_id"]), k=1)
        assert hit.event_id == event["event_id"]
        assert hit.cosine == pytest.approx(1, abs=1e-5)
    assert fakes.find(store, fakes.new_vector("x"), text="dog", k=1)[0].text == "a dog"


def test_all_vectors_are_exchanged_when_none_misses(store, config, fakes):
    before = {name: rows(store, name) for name in ("texts", "features")}
    kept = rows(store, "events", without=["embedding"])
    schema = store.tables.events.schema
    assert store.missing_embeddings("new")["event_id"].to_pylist() == [
        "v:0000:00000", "v:0000:00001", "v:0000:00002", "w:0000:00000", "w:0000:00001"
    ]  # fmt: skip
    store.stage_embeddings(fakes.vectors_of(store, ["v"]))
    store.stage_embeddings(fakes.vectors_of(store, ["v"]))
    assert set(store.missing_embeddings("new")["video_id"].to_pylist()) == {"w"}
    assert store.missing_embeddings("another").num_rows == 5
    assert not switch(store)
    old = {"videos": {"e1"}, "encoder": ("old", fakes.DIM), "config": "a: 1\n"}
    assert state(config) == {**old, "staged": {"new": 3}}
    assert len(fakes.find(store, np.ones(fakes.DIM, np.float32), k=9)) == 5

    store.stage_embeddings(fakes.vectors_of(store, ["w"]))
    assert switch(store)
    check_new(store, fakes)
    assert state(config) == FINISHED
    for opened in (store, MemoryStore.open(config)):
        assert {name: rows(opened, name) for name in before} == before
        assert rows(opened, "events", without=["embedding"]) == kept
    new = store.tables.events.schema
    assert new.names == schema.names
    assert new.field("event_id").metadata == schema.field("event_id").metadata
    assert new.field("embedding") == schema.field("embedding").with_type(pa.list_(pa.float32(), 24))
    indexed = {i.columns[0] for i in store.tables.events.list_indices()}
    assert {"text", "event_id", "video_id"} <= indexed


def test_the_memory_goes_on_with_the_new_encoder(store, config, fakes):
    """New videos are published, and the vectors go back to those of the first encoder."""
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    assert switch(store)
    videos, events, features, texts = fakes.tables_of("x", "/x.mp4", 1, text="a bird")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(fakes.new_vector("x:0000:00000")), 24)
    place = events.schema.get_field_index("embedding")
    events = events.set_column(place, schemas.events_schema(24).field("embedding"), vectors)
    store.publish(videos, events, features, texts)
    check_new(store, fakes)
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w", "x"], "old", fakes.DIM))
    assert store.switch_encoder("old", fakes.DIM, "a: 3\n")
    assert state(config)["encoder"] == ("old", fakes.DIM)
    assert store.last_config() == "a: 3\n"
    (hit,) = fakes.find(store, fakes.new_vector("x:0000:00000", "old", fakes.DIM), k=1)
    assert hit.event_id == "x:0000:00000"


def test_the_vector_index_is_built_anew(store, config, fakes):
    store.publish(*fakes.tables_of("many", "/many.mp4", 400))
    small = MemoryStore.open(dataclasses.replace(config, vector_index_rows=300))
    small.optimize()
    assert small.status()["indexes"]["events"]["embedding"]["indexed_rows"] == 405
    small.stage_embeddings(fakes.vectors_of(small, ["v", "w", "many"]))
    assert switch(small)
    index = small.status()["indexes"]["events"]["embedding"]
    assert (index["indexed_rows"], index["unindexed_rows"]) == (405, 0)
    check_new(small, fakes)


@pytest.mark.parametrize("dim", [16, 24])
def test_what_is_open_with_the_old_encoder_is_refused(store, config, fakes, dim):
    """Also where the dimensions agree: nothing else would tell the vectors apart."""
    other = MemoryStore.open(config)
    caption = pa.Table.from_pylist([], schema=schemas.TEXTS)
    said = {"video_id": "v", "texts_fingerprint": "t2", "warnings": []}
    said = pa.Table.from_pylist([said], schema=changes.SAID)
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"], dim=dim))
    assert switch(store, dim)
    events = rows(store, "events")
    other.refresh()
    message = f"holds vectors of encoder new of {dim} dimensions since a moment ago"
    with pytest.raises(MemoryStoreError, match=message):
        fakes.find(other, np.ones(fakes.DIM, np.float32))
    with pytest.raises(MemoryStoreError, match=message):
        other.publish(*fakes.tables_of("x", "/x.mp4", 1))
    with pytest.raises(MemoryStoreError, match=message):
        other.update_texts(said, caption)
    assert rows(store, "events") == events
    assert other.events_of("v", columns=["event_id"]).num_rows == 3
    with pytest.raises(MemoryStoreError, match="holds vectors of encoder new already"):
        store.stage_embeddings(fakes.vectors_of(store, ["v"], dim=dim))


class Crash(Exception):
    pass


def crash(*_, **__):
    raise Crash


@pytest.mark.parametrize(
    ("step", "seen"),
    [
        ("exchange", "old"),
        ("_first_of", "new"),
        ("_torn", "new"),
        ("maintenance.optimize", "new"),
    ],
)
def test_an_exchange_that_breaks_off_leaves_the_old_or_the_new_vectors(
    store, config, fakes, monkeypatch, step, seen
):
    """step: what is not reached any more."""
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    with monkeypatch.context() as patch:
        patch.setattr(f"marc_core.memory.embeddings.{step}", crash)
        with pytest.raises(Crash):
            switch(store)
    left = state(config)
    assert left["staged"] == {"new": 5}
    assert left["videos"] == ({E2} if step == "maintenance.optimize" else {"e1"})
    check_seen(config, fakes, seen)
    store = MemoryStore.open(config)
    if seen == "old":
        assert switch(store)
    else:
        store.complete_switch()
    assert state(config) == FINISHED
    check_new(store, fakes)


def check_seen(config, fakes, seen):
    left, store = state(config), MemoryStore.open(config)
    if seen == "old":
        assert (left["encoder"], left["config"]) == (("old", fakes.DIM), "a: 1\n")
        assert len(fakes.find(store, np.ones(fakes.DIM, np.float32), k=9)) == 5
    else:
        assert (left["encoder"], left["config"]) == (("new", 24), "a: 2\n")
        check_new(store, fakes)


def test_a_kill_while_the_events_are_written_leaves_the_old_vectors(store, config, fakes):
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    command = [sys.executable, str(PROGRAM), config.uri, "switch"]
    program = subprocess.run(command, stderr=subprocess.PIPE)
    assert program.returncode == -9, program.stderr
    check_seen(config, fakes, "old")
    assert switch(MemoryStore.open(config))
    assert state(config) == FINISHED


def meanwhile(monkeypatch, act):
    """Let another writer act just before the first exchanging commit."""
    real, acted = embeddings._overwrite, []

    def overwrite(*args):
        if not acted:
            acted.append(1)
            act()
        real(*args)

    monkeypatch.setattr(embeddings, "_overwrite", overwrite)


def test_a_video_that_comes_in_between_is_not_lost(store, config, fakes, monkeypatch):
    other = MemoryStore.open(config)
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    meanwhile(monkeypatch, lambda: other.publish(*fakes.tables_of("x", "/x.mp4", 2)))
    assert not switch(store)
    assert state(config)["encoder"] == ("old", fakes.DIM)
    assert store.missing_embeddings("new")["video_id"].to_pylist() == ["x", "x"]
    assert len(fakes.find(store, np.ones(fakes.DIM, np.float32), k=9)) == 7
    other.optimize()
    store.stage_embeddings(fakes.vectors_of(store, ["x"]))
    assert switch(store)
    assert state(config) == FINISHED
    check_new(store, fakes)


def test_a_video_that_is_deleted_in_between_stays_deleted(store, config, fakes, monkeypatch):
    other = MemoryStore.open(config)
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    meanwhile(monkeypatch, lambda: other.delete_video("w"))
    assert switch(store)
    assert state(config) == FINISHED
    assert [event["video_id"] for event in rows(store, "events")] == ["v"] * 3
    check_new(store, fakes)


def test_writers_that_never_rest_are_an_error(store, config, fakes, monkeypatch):
    other, real = MemoryStore.open(config), embeddings._overwrite

    def overwrite(*args):
        other.publish(*fakes.tables_of("v", "/v.mp4", 3, text="a dog"))
        real(*args)

    monkeypatch.setattr(embeddings, "_overwrite", overwrite)
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    with pytest.raises(MemoryStoreError, match="Other writers kept changing the memory"):
        switch(store)
    assert state(config)["encoder"] == ("old", fakes.DIM)


def test_a_vector_counts_for_the_frames_it_was_made_of(store, config, fakes):
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    store.publish(*fakes.tables_of("w", "/w.mp4", 2, text="a cat", frame_times_s=[0.25]))
    assert store.missing_embeddings("new")["video_id"].to_pylist() == ["w", "w"]
    assert not switch(store)
    store.stage_embeddings(fakes.vectors_of(store, ["w"]))
    assert switch(store)


def test_events_that_nobody_sees_are_left_out(store, config, fakes):
    """Those of a writer that died before its video was visible."""
    videos, events, features, texts = fakes.tables_of("x", "/x.mp4", 2)
    store.publish(videos, events, features, texts)
    store.tables.videos.delete("video_id = 'x'")
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    assert switch(store)
    assert {event["video_id"] for event in rows(store, "events")} == {"v", "w"}


def test_a_video_whose_events_came_too_late_is_indexed_again(store, config, fakes, monkeypatch):
    """Its row came after the exchange had left its events out: its old name gives it away."""
    store.publish(*fakes.tables_of("x", "/x.mp4", 2))
    (row,) = [row for row in rows(store, "videos") if row["video_id"] == "x"]
    store.tables.videos.delete("video_id = 'x'")
    store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    real = embeddings._torn

    def torn(tables):
        tables.videos.add(pa.Table.from_pylist([row], schema=schemas.VIDEOS))
        return real(tables)

    monkeypatch.setattr(embeddings, "_torn", torn)
    assert switch(store)
    names = {r["video_id"]: r["embeddings_fingerprint"] for r in rows(store, "videos")}
    assert names == {"v": E2, "w": E2, "x": "e1"}


def test_wrong_vectors_are_refused_before_anything_is_staged(store, fakes):
    good = fakes.vectors_of(store, ["v"])
    with pytest.raises(MemoryStoreError, match="under one encoder"):
        store.stage_embeddings(pa.concat_tables([good, fakes.vectors_of(store, ["w"], "third")]))
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3 * 24, np.float32)), 24)
    bad = good.set_column(4, good.schema.field("embedding"), zeros)
    with pytest.raises(MemoryStoreError, match="finite and not zero"):
        store.stage_embeddings(bad)
    assert store.status()["staged"] == {}


def test_vectors_of_an_encoder_that_is_given_up_are_orphans(store, config, fakes):
    store.stage_embeddings(fakes.vectors_of(store, ["v"]))
    store.optimize()
    assert store.status()["staged"] == {"new": 3}
    assert store.gc(GcPolicy(orphans=True))["embeddings_new"] == 3
    assert store.status()["staged"] == {}
    assert store.missing_embeddings("new").num_rows == 5


def test_many_commits_of_vectors_are_compacted(store, fakes, monkeypatch):
    monkeypatch.setattr(embeddings, "_UPKEEP_EVERY", 4)
    for _ in range(9):
        store.stage_embeddings(fakes.vectors_of(store, ["v", "w"]))
    staged = store.tables.db.open_table("embeddings_new")
    assert staged.count_rows() == 5
    assert staged.stats()["fragment_stats"]["num_fragments"] <= 4
    assert [i.columns for i in staged.list_indices()] == [["event_id"]]


def test_an_empty_memory_gets_another_encoder(config, fakes):
    store = MemoryStore.open(config, embedding_dim=16, encoder_fingerprint="old", create=True)
    store.record_run("a: 1\n")
    assert switch(store)
    assert state(config)["encoder"] == ("new", 24)
