"""What the memory holds after each kind of write, and what readers see."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import torch

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore
from marc_core.memory.rows import conform
from marc_core.memory.tables import RUNS
from marc_core.text_rows import with_kinds

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def all_ids(store):
    """Return the keys of all rows by table, sorted, doubles included."""
    keys = {
        "videos": "video_id", "events": "event_id", "texts": "text_id", "features": "feature_id",
    }  # fmt: skip
    store.refresh()
    tables = store.tables.all()
    return {
        name: sorted(tables[name].search().select([key]).to_arrow()[key].to_pylist())
        for name, key in keys.items()
    }


def expected_ids(*videos, model="m1", texts=False):
    events = sorted(schemas.make_event_id(v, 0, i) for v, n in videos for i in range(n))
    return {
        "videos": sorted(v for v, _ in videos),
        "events": events,
        "texts": [f"{e}:sidecar:000" for e in events] if texts else [],
        "features": [f"{e}@{model}" for e in events],
    }


def test_published_rows_come_back_unchanged(store, fakes):
    videos, events, features, texts = fakes.tables_of(
        "v", "/v.mp4", 3, text="a dog", tags=["x", "y"]
    )
    store.publish(videos, events, features, texts)
    assert store.videos().equals(videos.select(schemas.VIDEOS.names))
    assert store.texts_of(events["event_id"].to_pylist()).equals(texts)
    assert store.events_of("v").equals(with_kinds(events, texts))
    found = store.tables.features.search().to_arrow().sort_by("feature_id")
    assert found.equals(features)


def test_publishing_again_changes_nothing(store, fakes):
    rows = fakes.tables_of("v", "/v.mp4", 3)
    for _ in range(3):
        store.publish(*rows)
    assert all_ids(store) == expected_ids(("v", 3))


def test_column_order_and_string_types_do_not_matter(store, fakes):
    videos, events, features, _ = fakes.tables_of("v", "/v.mp4", 2)
    large = videos.set_column(1, "uri", videos["uri"].cast(pa.large_string()))
    store.publish(large.select(large.column_names[::-1]), events, features)
    assert store.get_video("v")["uri"] == "/v.mp4"


def test_rows_that_come_in_many_pieces_are_written_in_one(fakes):
    """A commit gathers hundreds of videos; LanceDB takes twelve times as long for their pieces."""
    pieces = [fakes.tables_of(f"v{i}", f"/{i}.mp4", 2)[1] for i in range(5)]
    schema = schemas.events_schema(fakes.DIM)
    whole = conform(pa.concat_tables(pieces), schema, "events", "event_id")
    assert whole.num_rows == 10
    assert {column.num_chunks for column in whole.columns} == {1}
    assert whole.equals(pa.concat_tables(pieces).cast(schema))


def test_fewer_events_leave_no_surplus(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 5))
    store.publish(*fakes.tables_of("w", "/w.mp4", 5))
    store.publish(*fakes.tables_of("v", "/v.mp4", 2))
    assert all_ids(store) == expected_ids(("v", 2), ("w", 5))


def test_surplus_goes_in_the_same_commit_as_the_new_events(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 5))
    before = store.tables.events.version
    store.publish(*fakes.tables_of("v", "/v.mp4", 2))
    store.refresh()
    assert store.tables.events.version == before + 1


def test_a_new_version_of_a_uri_replaces_the_old_one(store, fakes):
    store.publish(*fakes.tables_of("old", "/a.mp4", 4))
    store.publish(*fakes.tables_of("other", "/b.mp4", 2))
    store.publish(*fakes.tables_of("new", "/a.mp4", 3))
    assert all_ids(store) == expected_ids(("new", 3), ("other", 2))


def test_features_of_an_older_model_go(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 2, model="m1"))
    store.publish(*fakes.tables_of("v", "/v.mp4", 2, model="m2"))
    assert all_ids(store) == expected_ids(("v", 2), model="m2")
    assert store.load_features(["v:0000:00000"], "m1") == {}


def test_without_features_none_stay(store, fakes):
    videos, events, features, _ = fakes.tables_of("v", "/v.mp4", 2)
    store.publish(videos, events, features)
    store.publish(videos, events, None)
    assert all_ids(store)["features"] == []


def test_one_video_is_one_commit_a_table(store, fakes):
    store.publish(*fakes.tables_of("first", "/f.mp4", 1, text="a cat"))  # indexes its words, once
    store.refresh()
    before = {n: t.version for n, t in store.tables.all().items()}
    store.publish(*fakes.tables_of("v", "/v.mp4", 3, text="a dog"))
    store.refresh()
    after = {n: t.version for n, t in store.tables.all().items()}
    assert {n: after[n] - before[n] for n in after} == {
        "videos": 1, "events": 1, "features": 1, "texts": 1, "runs": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, e, f, t: (v.drop_columns(["uri"]), e, f), r"Missing: \['uri'\]"),
        (lambda v, e, f, t: (v.append_column("extra", v["uri"]), e, f), r"unknown: \['extra'\]"),
        (lambda v, e, f, t: (v, e.slice(0, 2), f), "must be"),
        (lambda v, e, f, t: (v, e.slice(1), f), "must be"),
        (lambda v, e, f, t: (v.slice(0, 0), e, f), "must be"),
        (lambda v, e, f, t: (v, pa.concat_tables([e, e]), f), "event_id twice"),
        (lambda v, e, f, t: (v, e, pa.concat_tables([f, f])), "feature_id twice"),
        (lambda v, e, f, t: (pa.concat_tables([v, v]), e, f), "video_id twice"),
        (lambda v, e, f, t: (v, e, f, t.slice(1)), r"texts give None"),
        (lambda v, e, f, t: (v, e, f, pa.concat_tables([t, t])), "text_id twice"),
        (lambda v, e, f, t: (v, e.slice(0, 0), f, t), "must be"),
    ],
)
def test_wrong_rows_are_refused_before_anything_is_written(store, fakes, change, message):
    with pytest.raises(MemoryStoreError, match=message):
        store.publish(*change(*fakes.tables_of("v", "/v.mp4", 3, text="a dog")))
    assert all_ids(store) == expected_ids()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding": np.zeros(16, np.float32)}, "not zero"),
        ({"embedding": np.full(16, np.nan, np.float32)}, "finite"),
        ({"start_s": 5.0, "end_s": 5.0}, "start before they end"),
        ({"event_id": "other:0000:00000"}, "must be"),
        ({"part": 1}, "must be video_id:part:index"),
        ({"text": "said"}, "its texts give None"),
    ],
)
def test_wrong_events_are_refused(store, fakes, values, message):
    events = pa.Table.from_pylist(
        [fakes.event_row("v", 0, **values)], schema=schemas.events_schema(fakes.DIM)
    )
    videos, *_ = fakes.tables_of("v", "/v.mp4", 1)
    with pytest.raises(MemoryStoreError, match=message):
        store.publish(videos, events, None)


def test_embeddings_of_another_dimension_are_refused(store, fakes):
    videos, events, *_ = fakes.tables_of("v", "/v.mp4", 1)
    wide = pa.array([[1.0] * 24], pa.list_(pa.float32(), 24))
    column = events.schema.get_field_index("embedding")
    with pytest.raises(MemoryStoreError, match=r"events\.embedding"):
        store.publish(videos, events.set_column(column, "embedding", wide), None)


def test_nulls_where_none_may_be_are_refused(store, fakes):
    videos, events, *_ = fakes.tables_of("v", "/v.mp4", 1)
    nulls = pa.array([None], pa.string())
    with pytest.raises(MemoryStoreError, match=r"videos\.uri.*null"):
        store.publish(videos.set_column(1, "uri", nulls), events, None)


def failure(fakes, video_id, uri, **values):
    row = fakes.video_row(video_id, uri, None, status="failed", error_class="timeout")
    return pa.Table.from_pylist([row | values], schema=schemas.VIDEOS)


def test_failures_are_recorded_and_hide_nothing_older(store, fakes):
    store.publish(*fakes.tables_of("old", "/a.mp4", 2))
    store.record_failures(failure(fakes, "new", "/a.mp4"))
    states = {r["video_id"]: r["status"] for r in store.video_states().to_pylist()}
    assert states == {"old": "indexed", "new": "failed"}
    assert store.events_of("old").num_rows == 2
    assert store.get_video("/a.mp4")["video_id"] == "old"
    assert [r["error_class"] for r in store.failures()] == ["timeout"]


def test_a_failed_reindexing_keeps_what_was_indexed_visible(store, fakes):
    store.publish(*fakes.tables_of("v", "/a.mp4", 2))
    store.record_failures(failure(fakes, "v", "/a.mp4", attempts=2))
    row = store.get_video("v")
    assert (row["status"], row["num_events"], row["attempts"]) == ("failed", 2, 2)
    assert store.events_of("v").num_rows == 2
    store.publish(*fakes.tables_of("v", "/a.mp4", 3))
    assert store.get_video("v")["status"] == "indexed"


def test_indexed_is_no_failure(store, fakes):
    with pytest.raises(MemoryStoreError, match="quarantined"):
        store.record_failures(failure(fakes, "v", "/a.mp4", status="indexed"))


def test_deleting_removes_everything_derived(store, fakes):
    store.publish(*fakes.tables_of("v", "/a.mp4", 3))
    store.publish(*fakes.tables_of("w", "/b.mp4", 2))
    store.record_failures(failure(fakes, "v2", "/a.mp4"))
    assert store.delete_video("/a.mp4") == {"videos": 2, "events": 3, "features": 3, "texts": 0}
    assert all_ids(store) == expected_ids(("w", 2))
    assert store.delete_video("w") == {"videos": 1, "events": 2, "features": 2, "texts": 0}
    with pytest.raises(MemoryStoreError, match="no video 'w'"):
        store.delete_video("w")


def test_an_open_reader_sees_what_another_writes(store, config, fakes):
    reader = MemoryStore.open(config)
    assert reader.video_states().num_rows == 0
    store.publish(*fakes.tables_of("v", "/v.mp4", 2))
    assert reader.video_states()["video_id"].to_pylist() == ["v"]
    hits = fakes.find(reader, np.ones(fakes.DIM, np.float32))
    assert len(hits) == 2


def test_status_counts(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 3))
    store.record_failures(failure(fakes, "w", "/w.mp4"))
    store.record_failures(failure(fakes, "x", "/x.mp4", status="quarantined"))
    status = store.status()
    counts = {k: status[k] for k in ("videos", "indexed", "failed", "quarantined", "events")}
    assert counts == {"videos": 3, "indexed": 1, "failed": 1, "quarantined": 1, "events": 3}
    assert status["failures"] == {"timeout": 2}
    assert status["hours"] == pytest.approx(0.01)
    assert status["feature_bytes"] == 3 * 2 * 6 * 8 * 2
    assert store.count_tokens(["v", "w"]) == 3 * 2 * 6


def test_runs_are_recorded(store):
    assert store.last_config() is None
    store.record_run("a: 1\n")
    store.record_run("a: 2\n")
    assert store.last_config() == "a: 2\n"


def test_a_missing_memory_is_a_clear_error_and_makes_no_folder(tmp_path):
    with pytest.raises(MemoryStoreError, match="Run `marc index` first"):
        MemoryStore.open(MemoryConfig(uri=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()
    with pytest.raises(MemoryStoreError, match="Run `marc index` first"):
        MemoryStore.open(MemoryConfig(uri=str(tmp_path)))


def test_creating_twice_opens(store, config, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 2))
    again = MemoryStore.open(config, embedding_dim=fakes.DIM, create=True)
    assert again.status()["events"] == 2


def test_another_encoder_is_refused(tmp_path):
    config = MemoryConfig(uri=str(tmp_path / "m"))
    MemoryStore.open(config, embedding_dim=16, encoder_fingerprint="aaa", create=True)
    MemoryStore.open(config, embedding_dim=16, encoder_fingerprint="aaa")
    with pytest.raises(MemoryStoreError, match="of 16 dimensions; this is an encoder of 32"):
        MemoryStore.open(config, embedding_dim=32)
    with pytest.raises(
        MemoryStoreError, match="encoder aaa of 16 dimensions; this is encoder bbb"
    ) as error:
        MemoryStore.open(config, encoder_fingerprint="bbb", create=True)
    assert f"marc index --only embeddings --memory {config.uri} encoder.model=" in str(error.value)


def test_the_binding_to_the_encoder_survives_upkeep(store, config, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 2))
    store.optimize()
    assert MemoryStore.open(config, embedding_dim=fakes.DIM).meta == store.meta


def test_a_foreign_table_is_refused(tmp_path):
    import lancedb

    db = lancedb.connect(str(tmp_path))
    for name in ("videos", "events", "features", "runs"):
        db.create_table(name, pa.table({"a": [1]}))
    with pytest.raises(MemoryStoreError, match="not a MARC memory"):
        MemoryStore.open(MemoryConfig(uri=str(tmp_path)))


def test_hostile_names_are_only_names(store, fakes):
    names = ["it's", "\\' OR true --", "''", "a\nb", '"', "日本 %_", "\\"]
    for i, name in enumerate(names):
        store.publish(*fakes.tables_of(f"v{i}", name, 1))
    for i, name in enumerate(names):
        assert store.get_video(name)["video_id"] == f"v{i}"
        store.delete_video(name)
        assert store.tables.videos.count_rows() == len(names) - i - 1


def test_the_latest_of_two_failures_of_a_uri_is_found(store, fakes):
    day = dt.timedelta(days=1)
    for i, name in enumerate(["b", "a"]):
        at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + i * day
        store.record_failures(failure(fakes, name, "/x.mp4", indexed_at=at))
    assert store.get_video("/x.mp4")["video_id"] == "a"
    assert store.get_video("/y.mp4") is None


def test_features_load_by_event_and_model(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 3))
    found = store.load_features(["v:0000:00002", "v:0000:00000", "v:0000:00009"], "m1")
    assert sorted(found) == ["v:0000:00000", "v:0000:00002"]
    for index in (0, 2):
        expected = fakes.features_of(index)
        assert torch.equal(found[f"v:0000:{index:05d}"].groups_TPD, expected.groups_TPD)


@pytest.mark.parametrize(
    ("archive", "command"),
    [
        ("[/videos/day 1, s3://b/c]", "marc index '/videos/day 1' s3://b/c --memory {}-format-2"),
        (None, "marc index ARCHIVE --memory {}-format-2"),
    ],
)
def test_an_older_format_is_refused_with_the_command_that_indexes_anew(tmp_path, archive, command):
    import lancedb

    db = lancedb.connect(str(tmp_path))
    meta = b'{"format_version": 1, "embedding_dim": 16, "encoder_fingerprint": null}'
    db.create_table(
        "events", schema=pa.schema([("event_id", pa.string())], metadata={"marc": meta})
    )
    runs = db.create_table("runs", schema=RUNS)
    if archive:
        row = {"run_id": "r", "started_at": NOW, "config_yaml": f"archive: {archive}"}
        runs.add(pa.Table.from_pylist([row], schema=RUNS))
    for name in ("videos", "features"):
        db.create_table(name, pa.table({"a": [1]}))
    for create in (False, True):
        with pytest.raises(MemoryStoreError, match="has format 1; this version reads") as error:
            MemoryStore.open(MemoryConfig(uri=str(tmp_path)), embedding_dim=16, create=create)
        assert str(error.value).endswith(command.format(tmp_path))


def test_a_failed_reindexing_keeps_what_was_known(store, fakes):
    videos, events, *_ = fakes.tables_of("v", "/a.mp4", 2)
    row = videos.to_pylist()[0] | {"codec": "h264", "camera": "gate", "content_digest": "1-a"}
    store.publish(pa.Table.from_pylist([row], schema=schemas.VIDEOS), events)
    store.record_failures(failure(fakes, "v", "/a.mp4", cuts_fingerprint="c2", attempts=2))
    after = store.get_video("v")
    assert [after[n] for n in ("codec", "camera", "content_digest", "duration_s")] == [
        "h264", "gate", "1-a", 36.0
    ]  # fmt: skip
    assert (after["error_class"], after["cuts_fingerprint"], after["attempts"]) == (
        "timeout", "c2", 2
    )  # fmt: skip


def test_a_video_is_found_however_its_address_is_written(store, fakes):
    for i, uri in enumerate(("file:///a/caf%E9.mp4", "/a/x.mp4#1", "file:///a/x.mp4%231")):
        store.publish(*fakes.tables_of(f"v{i}", uri, 1))
    for name, found in {
        "/a/caf\udce9.mp4": "v0",
        "/a/b/../caf\udce9.mp4": "v0",
        "file:///a//caf%E9.mp4": "v0",
        "/a/x.mp4#1": "v1",
        "file:///a/x.mp4%231": "v2",
        "/a/./x.mp4#1": "v2",
    }.items():
        assert store.get_video(name)["video_id"] == found, name
    assert store.get_video("/a/caf?.mp4") is None
    assert store.delete_video("/a/x.mp4#1")["videos"] == 1
    assert store.videos()["video_id"].to_pylist() == ["v0", "v2"]
