"""A memory that an older version wrote: columns that came later are null until the next write."""

import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.memory import MemoryStore
from marc_core.memory.tables import missing_columns, scan

NAMES = {name: [field.name for field in fields] for name, fields in schemas.ADDED.items()}


@pytest.fixture
def old(store, config, fakes):
    """A memory of one indexed video, as the first version of the format wrote it."""
    store.publish(*fakes.tables_of("a", "a.mp4", 2))
    for name, added in NAMES.items():
        getattr(store.tables, name).drop_columns(added)
    return MemoryStore.open(config)


def test_added_columns_are_last_and_may_be_null():
    for name, schema in (("videos", schemas.VIDEOS), ("events", schemas.events_schema(4))):
        added = schemas.ADDED[name]
        assert tuple(schema)[-len(added) :] == added
        assert all(field.nullable for field in added)


def test_an_older_memory_reads_them_as_null(old):
    (row,) = old.videos().to_pylist()
    assert {row[name] for name in NAMES["videos"]} == {None}
    assert old.get_video("a.mp4")["speech_fingerprint"] is None
    events = old.events_of("a")
    assert events.schema.names == schemas.events_schema(old.meta.embedding_dim).names
    assert events["duplicate_of"].to_pylist() == [None, None]
    assert missing_columns(old.tables.videos)  # reading has written nothing


def test_only_added_columns_can_be_asked_for(old):
    assert scan(old.tables.videos, ["duplicate_of"]).to_pylist() == [{"duplicate_of": None}]
    with pytest.raises(ValueError, match="no_such_column"):
        scan(old.tables.videos, ["no_such_column"])


def test_the_first_write_adds_them_and_keeps_all_else(old, config, fakes):
    before, meta = old.events_of("a").drop_columns(["duplicate_of"]), old.meta
    new = fakes.video_row("b", "b.mp4", 1, speech_fingerprint="s1")
    _, events, features, texts = fakes.tables_of("b", "b.mp4", 1)
    old.publish(pa.Table.from_pylist([new], schema=schemas.VIDEOS), events, features, texts)
    for store in (old, MemoryStore.open(config)):
        assert store.meta == meta
        assert not any(missing_columns(table) for table in store.tables.all().values())
        names = [row["speech_fingerprint"] for row in store.videos().to_pylist()]
        assert names == [None, "s1"]
        assert store.events_of("a").drop_columns(["duplicate_of"]) == before


def test_a_failure_that_is_recorded_adds_them(old, fakes):
    failed = fakes.video_row("c", "c.mp4", None, status="failed", error_class="unreadable")
    old.record_failures(pa.Table.from_pylist([failed], schema=schemas.VIDEOS))
    assert old.get_video("c")["duplicate_of"] is None


def test_writers_that_add_them_at_once_agree(old, config):
    other = MemoryStore.open(config)
    assert missing_columns(other.tables.events)
    old.tables.complete_columns()
    other.tables.complete_columns()
    assert not missing_columns(other.tables.events)
    assert other.videos()["duplicate_of"].null_count == 1
