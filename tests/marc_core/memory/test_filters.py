"""Filters against brute force, and hostile values."""

import random

import numpy as np
import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.config import RetrieveConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import EventFilter, search
from marc_core.memory.filters import is_in, quote

HOSTILE = [
    "it's",
    "\\",
    "\\'",
    "\\' OR true --",
    "''",
    "' OR 1=1 --",
    '"',
    "\n\t",
    "\0",
    "`",
    "%",
    "日本",
]
CAMERAS = [None, "door", "it's", "\\' OR true --", "''"]
TAGS = ["night", "rain", "it's", "\\'", "a, b]"]


def publish_random(store, fakes, seed, num_videos=6):
    rng = random.Random(seed)
    rows = []
    for v in range(num_videos):
        videos, events, *_ = fakes.tables_of(f"v{v}", f"/{v}.mp4", rng.randint(1, 6))
        events = events.to_pylist()
        for event in events:
            event["camera"] = rng.choice(CAMERAS)
            event["tags"] = rng.sample(TAGS, rng.randint(0, 4)) if rng.random() < 0.9 else None
        rows += events
        table = pa.Table.from_pylist(events, schema=schemas.events_schema(fakes.DIM))
        store.publish(videos, table, None)
    return rows


def passes(row, f):
    return (
        (f.video_ids is None or row["video_id"] in f.video_ids)
        and (f.camera is None or row["camera"] == f.camera)
        and set(f.tags) <= set(row["tags"] or ())
        and (f.start_s is None or row["end_s"] > f.start_s)
        and (f.end_s is None or row["start_s"] < f.end_s)
    )


def random_filter(rng):
    def maybe(value):
        return value if rng.random() < 0.4 else None

    return EventFilter(
        video_ids=maybe(tuple(f"v{rng.randrange(7)}" for _ in range(rng.randint(0, 4)))),
        camera=maybe(rng.choice(CAMERAS[1:])),
        tags=maybe(tuple(rng.sample(TAGS, rng.randint(1, 2)))) or (),
        start_s=maybe(rng.uniform(-1, 6)),
        end_s=maybe(float(rng.randint(0, 6))),
    )


@pytest.mark.parametrize("optimized", [False, True])
def test_filtered_search_is_brute_force(store, fakes, optimized):
    rows = publish_random(store, fakes, seed=1)
    if optimized:
        store.optimize()
    rng, query = random.Random(2), np.random.default_rng(3).standard_normal(fakes.DIM)
    for _ in range(40):
        filters = random_filter(rng)
        wanted = {r["event_id"]: cosine(r["embedding"], query) for r in rows if passes(r, filters)}
        best = sorted(wanted, key=lambda key: -wanted[key])[:5]
        found = search(
            store, query.astype(np.float32), k=5, config=RetrieveConfig(), filters=filters
        )
        assert [hit.event_id for hit in found] == best, filters
        assert [hit.score for hit in found] == pytest.approx([wanted[b] for b in best], abs=1e-5)


def cosine(a, b):
    a = np.asarray(a, np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("optimized", [False, True])
def test_hostile_values_match_only_themselves(store, fakes, optimized):
    for i, value in enumerate(HOSTILE):
        store.publish(*fakes.tables_of(f"v{i}", f"/{i}", 1, camera=value, tags=[value]))
    if optimized:
        store.optimize()
    query = np.ones(fakes.DIM, np.float32)
    for i, value in enumerate(HOSTILE):
        for filters in (EventFilter(camera=value), EventFilter(tags=(value,))):
            found = search(store, query, k=50, config=RetrieveConfig(), filters=filters)
            assert [hit.video_id for hit in found] == [f"v{i}"], value
        assert not search(
            store, query, config=RetrieveConfig(), filters=EventFilter(video_ids=(value,))
        )


@pytest.mark.parametrize("text", [*HOSTILE, "(", "a AND (b", "*", "text:", "", " ", "the"])
def test_hostile_questions_are_only_words(store, fakes, text):
    store.publish(*fakes.tables_of("v", "/v", 2, text="a dog runs"))
    found = search(store, np.ones(fakes.DIM, np.float32), text=text, config=RetrieveConfig())
    assert len(found) == 2


def test_nothing_is_in_an_empty_list():
    assert is_in("video_id", []) == "false"
    assert EventFilter(video_ids=()).to_sql() == "false"
    assert EventFilter().to_sql() is None


def test_quote_doubles_quotes_and_nothing_else():
    assert quote("a'b\\''") == "'a''b\\'''''"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_seconds_must_be_finite(value):
    with pytest.raises(MemoryStoreError, match="start_s must be a finite number"):
        EventFilter(start_s=value).to_sql()
