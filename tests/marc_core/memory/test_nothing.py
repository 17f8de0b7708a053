"""Where nothing is found, one sentence says what the memory lacks, and what it has instead."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore
from marc_core.memory.nothing import why_nothing
from marc_core.question import EventFilter

DAY = dt.datetime(2026, 3, 1, 20, tzinfo=dt.UTC)


def publish(store, fakes, video_id: str, uri: str, **row: object) -> None:
    videos, *rest = fakes.tables_of(video_id, uri, 1)
    changed = [videos.to_pylist()[0] | {"folder": uri.rpartition("/")[0]} | row]
    store.publish(pa.Table.from_pylist(changed, schema=videos.schema), *rest)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, fakes):
    config = MemoryConfig(uri=str(tmp_path_factory.mktemp("filled") / "memory"))
    store = MemoryStore.open(config, embedding_dim=fakes.DIM, create=True)
    for i in range(7):
        publish(store, fakes, f"v{i}", f"/a/{i}/x.mp4", camera=f"gate {i}", tags=["night", f"t{i}"])
    publish(store, fakes, "odd", "file:///d%E9/x.mp4", recorded_at=DAY)
    return store


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"folder": "/b"},
            (
                "Nothing in the memory lies in folder '/b'. Folders: /a/0, /a/1, /a/2, /a/3, "
                "/a/4 and 3 more."
            ),
        ),
        (
            {"camera": "door"},
            (
                "Nothing in the memory has camera 'door'. Cameras: gate 0, gate 1, gate 2, gate 3, "
                "gate 4 and 2 more."
            ),
        ),
        (
            {"tags": ("night", "rain")},
            "Nothing in the memory has tag 'rain'. Tags: night, t0, t1, t2, t3 and 3 more.",
        ),
        ({"video_ids": ("v1", "w")}, "No indexed video has the id 'w'."),
        ({"video_ids": ()}, "The filter names no video at all, so no event passes it."),
        (
            {"recorded_from": DAY + dt.timedelta(days=9)},
            (
                "No event passes the filters. The memory's videos were begun between "
                "2026-03-01T20:00:00Z and 2026-03-01T20:00:00Z."
            ),
        ),
        (
            {"camera": "gate 1", "tags": ("t2",)},
            "No event passes all of the filters together. Leave one out.",
        ),
        ({"start_s": 1e6}, "No event passes the filter. Widen it."),
        ({"folder": "/d\udce9/", "start_s": 1e6}, "No event passes all of the filters together."),
        ({}, "The memory has 8 events, none of them here."),
    ],
)
def test_what_is_missing(filled, given, said):
    assert why_nothing(filled, EventFilter(**given)).startswith(said)


def test_a_memory_without_any(store, fakes):
    assert "marc index" in why_nothing(store, EventFilter(camera="door"))
    publish(store, fakes, "v", "/a/x.mp4")
    assert why_nothing(store, EventFilter(camera="door")).endswith("Cameras: none.")
    assert why_nothing(store, EventFilter(tags=("x",))).endswith("Tags: none.")
    assert "recorded_at" in why_nothing(store, EventFilter(recorded_to=DAY))
