"""Filters against brute force, and hostile values."""

import datetime as dt
import random

import numpy as np
import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.errors import AnswerError
from marc_core.memory.filters import filter_to_sql, is_in, quote
from marc_core.question import EventFilter

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
FOLDERS = ["/a", "/a/b", "/a/b c", "/it's_50%", "", "file:///a/d%E9", "gs://b/c", "s3://b/c%20d"]
WRITTEN = {
    "file:///a": "/a", "file:///a/": "/a", "/a//b": "/a/b", "/a/x/../b": "/a/b", "/a/./b/": "/a/b",
    "file:///a/b%20c": "/a/b c", "/a/d\udce9": "file:///a/d%E9", "gcs://b/c": "gs://b/c",
    "gs://b/": "gs://b", "file:///it%27s_50%25": "/it's_50%", "s3://b/c d": "s3://b/c d",
}  # fmt: skip
"""Other spellings of folders, and the memory's own."""
DAY = dt.datetime(2026, 3, 1, 20, tzinfo=dt.UTC)
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
            event["folder"] = rng.choice(FOLDERS)
            event["video_start_s"] = float(v) - 2
            if rng.random() < 0.8:
                event["recorded_from"] = DAY + dt.timedelta(hours=rng.randint(0, 9))
                event["recorded_to"] = event["recorded_from"] + dt.timedelta(hours=1)
        rows += events
        table = pa.Table.from_pylist(events, schema=schemas.events_schema(fakes.DIM))
        store.publish(videos, table, None)
    return rows


def passes(row, f):
    zero_s, recorded = row["video_start_s"], row["recorded_from"] is not None
    folder = None if f.folder is None else WRITTEN.get(f.folder, f.folder).rstrip("/")
    return (
        (f.video_ids is None or row["video_id"] in f.video_ids)
        and (f.camera is None or row["camera"] == f.camera)
        and set(f.tags) <= set(row["tags"] or ())
        and (f.start_s is None or row["end_s"] - zero_s > f.start_s)
        and (f.end_s is None or row["start_s"] - zero_s < f.end_s)
        and (
            folder is None
            or f"{row['folder']}/".replace("file://", "").startswith(
                f"{folder}/".replace("file://", "")
            )
        )
        and (f.recorded_from is None or (recorded and row["recorded_to"] > f.recorded_from))
        and (f.recorded_to is None or (recorded and row["recorded_from"] < f.recorded_to))
    )


def moscow(moment):
    return moment.astimezone(dt.timezone(dt.timedelta(hours=3)))


def random_filter(rng):
    def maybe(value):
        return value if rng.random() < 0.4 else None

    begin, end = sorted(rng.randint(0, 20) for _ in range(2))
    first_s, last_s = sorted((rng.uniform(-1, 6), float(rng.randint(0, 6))))
    return EventFilter(
        video_ids=maybe(tuple(f"v{rng.randrange(7)}" for _ in range(rng.randint(0, 4)))),
        camera=maybe(rng.choice(CAMERAS[1:])),
        tags=maybe(tuple(rng.sample(TAGS, rng.randint(1, 2)))) or (),
        folder=maybe(rng.choice([*FOLDERS, *WRITTEN, "/a/", "/", "/nowhere"])),
        recorded_from=maybe(DAY + dt.timedelta(minutes=30 * begin)),
        recorded_to=maybe(moscow(DAY + dt.timedelta(minutes=30 * end))),
        start_s=maybe(first_s),
        end_s=maybe(last_s),
    )


@pytest.mark.parametrize("optimized", [False, True])
def test_filtered_search_is_brute_force(store, fakes, optimized):
    rows = publish_random(store, fakes, seed=1)
    if optimized:
        store.optimize()
    rng, query = random.Random(2), np.random.default_rng(3).standard_normal(fakes.DIM)
    for _ in range(90):
        filters = random_filter(rng)
        wanted = {r["event_id"]: cosine(r["embedding"], query) for r in rows if passes(r, filters)}
        best = sorted(wanted, key=lambda key: -wanted[key])[:5]
        found = fakes.find(store, query.astype(np.float32), k=5, filters=filters)
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
            found = fakes.find(store, query, k=50, filters=filters)
            assert [hit.video_id for hit in found] == [f"v{i}"], value
        assert not fakes.find(store, query, filters=EventFilter(video_ids=(value,)))


@pytest.mark.parametrize("text", [*HOSTILE, "(", "a AND (b", "*", "text:", "", " ", "the"])
def test_hostile_questions_are_only_words(store, fakes, text):
    store.publish(*fakes.tables_of("v", "/v", 2, text="a dog runs"))
    found = fakes.find(store, np.ones(fakes.DIM, np.float32), text=text)
    assert len(found) == 2


@pytest.mark.parametrize("year", [1, 282, 9999])
def test_every_moment_of_the_calendar_is_a_condition(store, fakes, year):
    store.publish(*fakes.tables_of("v", "/v", 1, recorded_from=DAY, recorded_to=DAY))
    first = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
    last = dt.datetime(year, 12, 31, 23, tzinfo=dt.UTC)
    query = np.ones(fakes.DIM, np.float32)
    for moment in (first, last):
        assert len(fakes.find(store, query, filters=EventFilter(recorded_from=moment))) == (
            year < 9999
        )
        assert len(fakes.find(store, query, filters=EventFilter(recorded_to=moment))) == (
            year == 9999
        )


def test_nothing_is_in_an_empty_list():
    assert is_in("video_id", []) == "false"
    assert filter_to_sql(EventFilter(video_ids=())) == "false"
    assert filter_to_sql(EventFilter()) is None


def test_quote_doubles_quotes_and_nothing_else():
    assert quote("a'b\\''") == "'a''b\\'''''"


@pytest.mark.parametrize("name", ["recorded_from", "recorded_to"])
def test_wall_clocks_without_an_offset_are_refused(name):
    with pytest.raises(AnswerError, match=rf"{name} .*must carry an offset.*2026-03-01T20:00:00"):
        filter_to_sql(EventFilter(**{name: DAY.replace(tzinfo=None)}))


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_wall_clocks_beyond_the_calendar_are_refused(text):
    with pytest.raises(AnswerError, match="years 1 to 9999"):
        filter_to_sql(EventFilter(recorded_from=dt.datetime.fromisoformat(text)))


def test_halves_of_characters_are_only_values(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 1))
    assert store.get_video("/\udc80.mp4") is None
    assert not fakes.find(store, np.ones(fakes.DIM), filters=EventFilter(camera="\udc80"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_seconds_must_be_finite(value):
    with pytest.raises(AnswerError, match=r"start_s .*must be a finite number"):
        filter_to_sql(EventFilter(start_s=value))
