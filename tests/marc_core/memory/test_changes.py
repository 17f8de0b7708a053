"""Videos that are there already get other texts, another address, other features, or go."""

import datetime as dt

import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.feature_rows import features_row
from marc_core.memory import changes, publishing
from marc_core.recorded.rows import ELSEWHERE
from marc_core.types import VideoSource

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


class Crash(Exception):
    pass


def crash_after(patch, commits):
    """Let the next call fail after so many commits of its own."""
    done = []

    def counted(real):
        def commit(*args, **kwargs):
            result = real(*args, **kwargs)
            done.append(1)
            if len(done) == commits:
                raise Crash
            return result

        return commit

    for module in (changes, publishing):
        for name in ("merge", "delete_where"):
            patch.setattr(module, name, counted(getattr(module, name)))


def rows_by_table(store):
    store.refresh()
    keys = {"videos": "video_id", "events": "event_id", "texts": "text_id",
            "features": "feature_id"}  # fmt: skip
    return {
        name: table.search().to_arrow().sort_by(keys[name]).to_pylist()
        for name, table in store.tables.all().items()
        if name in keys
    }


def said(video_id, **values):
    row = {"video_id": video_id, "texts_fingerprint": "t2", "warnings": []} | values
    return pa.Table.from_pylist([row], schema=changes.SAID)


def text(event_id, words, kind="sidecar", number=0, start_s=0.0):
    return {
        "text_id": schemas.make_text_id(event_id, kind, number),
        "event_id": event_id,
        "video_id": event_id.split(":")[0],
        "kind": kind,
        "start_s": start_s,
        "end_s": start_s + 1,
        "text": words,
        "fingerprint": "t2",
    }


def texts(*rows):
    return pa.Table.from_pylist(list(rows), schema=schemas.TEXTS)


def publish_speaking(store, fakes):
    """Publish a video of three events; the first has speech besides a caption."""
    videos, events, features, captions = fakes.tables_of("v", "/v.mp4", 3, text="a dog")
    spoken = texts(text("v:0000:00000", "hello", "speech", start_s=-1))
    joined = pa.array(["hello a dog", "a dog", "a dog"])
    events = events.set_column(events.schema.get_field_index("text"), "text", joined)
    store.publish(videos, events, features, pa.concat_tables([captions, spoken]))
    store.publish(*fakes.tables_of("w", "/w.mp4", 2, text="a dog"))


def new_texts(store):
    captions = texts(text("v:0000:00000", "a cat"), text("v:0000:00002", "a bird"))
    video = said("v", camera="gate", tags=["night"], recorded_at=NOON, warnings=["odd"])
    store.update_texts(video, captions)


def test_other_texts_change_nothing_else(store, fakes):
    publish_speaking(store, fakes)
    before = rows_by_table(store)
    new_texts(store)
    after = rows_by_table(store)
    assert after["features"] == before["features"]
    kept = [r for r in before["texts"] if r["kind"] == "speech" or r["video_id"] == "w"]
    captions = [r for r in after["texts"] if r not in kept]
    assert [r["text_id"] for r in captions] == [
        "v:0000:00000:sidecar:000", "v:0000:00002:sidecar:000"
    ]  # fmt: skip
    assert len(after["texts"]) == len(kept) + 2
    assert [r["text"] for r in after["events"]] == ["hello a cat", None, "a bird"] + ["a dog"] * 2
    assert [r["text_kinds"] for r in after["events"]][:3] == [
        ["sidecar", "speech"], None, ["sidecar"]
    ]  # fmt: skip
    changed = {"text", "text_kinds", "camera", "tags", "recorded_from", "recorded_to"}
    for old, new in zip(before["events"], after["events"], strict=True):
        assert {k for k in new if new[k] != old[k]} <= changed
    event = after["events"][2]
    assert (event["camera"], event["tags"]) == ("gate", ["night"])
    assert event["recorded_from"] == NOON + dt.timedelta(seconds=2)
    video = after["videos"][0]
    assert (video["texts_fingerprint"], video["warnings"]) == ("t2", ["odd"])
    assert (video["camera"], video["recorded_at"], video["num_events"]) == ("gate", NOON, 3)
    assert after["videos"][1] == before["videos"][1]


@pytest.mark.parametrize("commits", [1, 2, 3, 4])
def test_after_any_crash_other_texts_are_completed(store, fakes, monkeypatch, commits):
    publish_speaking(store, fakes)
    with monkeypatch.context() as patch:
        crash_after(patch, commits)
        with pytest.raises(Crash):
            new_texts(store)
    assert store.get_video("v")["texts_fingerprint"] == ("t2" if commits == 4 else "t1")
    new_texts(store)
    crashed = rows_by_table(store)
    new_texts(store)
    assert rows_by_table(store) == crashed
    assert [r["text"] for r in crashed["events"]][:3] == ["hello a cat", None, "a bird"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([text("v:0000:00009", "x")], "event that the memory holds"),
        ([text("w:0000:00000", "x")], "event that the memory holds"),
        ([text("v:0000:00000", "x", "speech")], "of a kind among"),
    ],
)
def test_texts_of_other_events_or_kinds_are_refused(store, fakes, rows, message):
    publish_speaking(store, fakes)
    before = rows_by_table(store)
    with pytest.raises(MemoryStoreError, match=message):
        store.update_texts(said("v"), texts(*rows))
    with pytest.raises(MemoryStoreError, match=r"no events of.*'unknown'"):
        store.update_texts(said("unknown"), texts())
    assert rows_by_table(store) == before


MOVED = VideoSource(video_id="new", uri="/elsewhere/b.mp4", size_bytes=1, version="2")


def renamed(rows):
    """Return what the rows of video `v` must be after its move."""
    by_table = {}
    for name, table in rows.items():
        by_table[name] = [
            {
                key: value.replace("v:", "new:") if key.endswith("_id") else value
                for key, value in row.items()
            }
            | ({"video_id": "new"} if row["video_id"] == "v" else {})
            | ({"folder": "/elsewhere"} if name in ("videos", "events") else {})
            for row in table
            if row["video_id"] == "v"
        ]
    by_table["videos"][0] |= {"uri": MOVED.uri, "version": "2"}
    del by_table["videos"][0]["indexed_at"]
    return by_table


@pytest.mark.parametrize(
    "commits",
    [None, 1, 5, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4, 6, 7, 8))],
)
def test_a_moved_file_keeps_everything_under_its_new_address(store, fakes, monkeypatch, commits):
    publish_speaking(store, fakes)
    before = rows_by_table(store)
    if commits:
        with monkeypatch.context() as patch:
            crash_after(patch, commits)
            with pytest.raises(Crash):
                store.rename_videos({"v": MOVED})
        visible = {"v", "new"} & set(store.visible_uris(["v", "new"]))
        assert visible
    store.rename_videos({"v": MOVED})
    assert store.rename_videos({"v": MOVED, "never": MOVED}) == []
    if store.get_video("v"):  # a crash between the last two commits: the row is hidden
        assert store.get_video("v")["num_events"] == 0
        store.delete_videos(["v"])
    after = rows_by_table(store)
    for name, expected in renamed(before).items():
        found = [row for row in after[name] if row["video_id"] == "new"]
        if name == "videos":
            del found[0]["indexed_at"]
            assert found[0].pop("clock_fingerprint") == ELSEWHERE  # its new name may say another
            del expected[0]["clock_fingerprint"]
        assert found == expected
        others = [row for row in before[name] if row["video_id"] == "w"]
        assert [row for row in after[name] if row["video_id"] == "w"] == others
        assert len(after[name]) == len(expected) + len(others)


def new_features(fakes, video_id, num_events, fingerprint="m2", **changes_):
    rows = [
        features_row(schemas.make_event_id(video_id, 0, i), video_id, fingerprint,
                     fakes.features_of(i)) | {"times_s": [i + 0.25, i + 0.75]} | changes_
        for i in range(num_events)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schemas.FEATURES)


def test_other_features_replace_the_old_ones_and_touch_nothing_else(store, fakes):
    publish_speaking(store, fakes)
    before = rows_by_table(store)
    for _ in range(2):
        store.publish_features(new_features(fakes, "v", 3))
    after = rows_by_table(store)
    assert after["events"] == before["events"]
    assert after["texts"] == before["texts"]
    keys = [row["feature_id"] for row in after["features"]]
    assert keys == [f"v:0000:0000{i}@m2" for i in range(3)] + [f"w:0000:0000{i}@m1" for i in (0, 1)]
    assert [row["features_fingerprint"] for row in after["videos"]] == ["m2", "m1"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: new_features(f, "v", 2), "cover every event"),
        (lambda f: new_features(f, "v", 4), "do not belong"),
        (lambda f: new_features(f, "v", 3, times_s=[50.0, 51.0]), "present cut"),
        (lambda f: pa.concat_tables([new_features(f, "v", 3), new_features(f, "w", 2, "m3")]),
         "cover every event"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_are_refused(store, fakes, make, message):
    publish_speaking(store, fakes)
    before = rows_by_table(store)
    with pytest.raises(MemoryStoreError, match=message):
        store.publish_features(make(fakes))
    assert rows_by_table(store) == before


@pytest.mark.parametrize("commits", [None, 1, 2, 3])
def test_a_deletion_that_was_cut_short_hides_and_can_be_repeated(
    store, fakes, monkeypatch, commits
):
    publish_speaking(store, fakes)
    if commits:
        with monkeypatch.context() as patch:
            crash_after(patch, commits)
            with pytest.raises(Crash):
                store.delete_videos(["v"])
        assert store.visible_uris(["v"]) == {}
        assert store.get_video("v")["cuts_fingerprint"] == "deleted"  # a run would index it again
    store.delete_videos(["v", "unknown"])
    assert {name: {r["video_id"] for r in rows} for name, rows in rows_by_table(store).items()} == {
        "videos": {"w"}, "events": {"w"}, "texts": {"w"}, "features": {"w"}
    }  # fmt: skip
