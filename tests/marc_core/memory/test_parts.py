"""Recordings in parts: what is visible when, and what a rerun finds."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore
from marc_core.memory.parts import GAP, clock_text
from marc_core.schemas import PARTS, PARTS_MISSING, PLANNED, make_part_id

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def part_row(number: int, video_id: str = "v", **values):
    row = {
        "part_id": make_part_id(video_id, number),
        "video_id": video_id,
        "part": number,
        "plan": "{}",
        "from_s": 1200.0 * number,
        "to_s": 1200.0 * (number + 1),
        "status": PLANNED,
        "attempts": 0,
        "cuts_fingerprint": "c1",
        "embeddings_fingerprint": "e1",
        "features_fingerprint": "m1",
        "updated_at": NOW,
    }
    return row | values


def parts_table(*rows) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PARTS)


@pytest.fixture
def planned(store, fakes) -> MemoryStore:
    """A memory in which a recording of three parts is planned."""
    video = fakes.video_row(
        "v", "/v.mp4", 0, status="failed", error_class=PARTS_MISSING, num_parts=3, warnings=["odd"]
    )
    videos = pa.Table.from_pylist([video], schema=schemas.VIDEOS)
    store.plan_parts(videos, parts_table(*(part_row(i) for i in range(3))))
    return store


def publish(store, fakes, number: int, count: int = 2, **values):
    events = [
        fakes.event_row("v", i)
        | {
            "event_id": schemas.make_event_id("v", number, i),
            "part": number,
            "start_s": 1200.0 * number + i,
            "end_s": 1200.0 * number + i + 1,
            "text": None,
        }
        for i in range(count)
    ]
    seams = {"head": f"s{number}" if number else None, "tail": f"s{number + 1}"}
    row = {"status": "indexed", "attempts": 1, "num_events": count, "num_frames": 10,
           "num_decode_errors": 0, "warnings": []}  # fmt: skip
    part = parts_table(part_row(number, **{**row, **seams, **values}))
    table = pa.Table.from_pylist(events, schema=schemas.events_schema(fakes.DIM))
    store.publish_part(part, table, None, None)


def test_a_part_is_found_as_soon_as_it_is_published(planned, fakes):
    assert planned.events_of("v").num_rows == 0
    publish(planned, fakes, 1)
    assert planned.events_of("v")["event_id"].to_pylist() == ["v:0001:00000", "v:0001:00001"]
    planned.settle_parts(["v"])
    video = planned.get_video("v")
    assert (video["status"], video["error_class"], video["num_events"]) == (
        "failed",
        PARTS_MISSING,
        2,
    )
    assert "2 of its 3 parts" in video["error_message"]


def test_a_part_that_comes_later_is_shown_to_the_text_stages(planned, fakes):
    publish(planned, fakes, 0)
    planned.tables.videos.update(values={"speech_fingerprint": "s1"}, where="video_id = 'v'")
    publish(planned, fakes, 1)
    assert planned.get_video("v")["speech_fingerprint"] is None


def test_publishing_a_part_again_changes_nothing_and_another_cut_replaces_it(planned, fakes):
    for count in (3, 3, 2):
        publish(planned, fakes, 0, count)
    assert planned.events_of("v").num_rows == 2
    assert planned.get_video("v")["num_events"] == 2


def test_a_recording_is_indexed_when_every_part_has_ended_and_says_its_gaps(planned, fakes):
    for number in (0, 2):
        publish(planned, fakes, number)
    failed = {"status": "failed", "error_class": "decoder_crash", "error_message": "SIGSEGV"}
    planned.record_failed_parts(parts_table(part_row(1, attempts=1, **failed)))
    planned.settle_parts(["v"])
    video = planned.get_video("v")
    assert (video["status"], video["error_class"]) == ("indexed", None)
    assert (video["num_events"], video["num_parts"], video["num_frames"]) == (4, 3, 20)
    odd, gap = video["warnings"]
    assert odd == "odd"
    assert gap == f"{GAP} from 0:20:00 to 0:40:00 (part 2 of 3): decoder_crash, SIGSEGV"
    publish(planned, fakes, 1)
    planned.settle_parts(["v"])
    video = planned.get_video("v")
    assert (video["num_events"], video["warnings"]) == (6, ["odd"])


def test_a_recording_of_which_every_part_failed_has_failed(planned):
    rows = [
        part_row(i, status="failed", error_class="unreadable", error_message=f"part {i}")
        for i in range(3)
    ]
    planned.record_failed_parts(parts_table(*rows))
    planned.settle_parts(["v"])
    video = planned.get_video("v")
    assert (video["status"], video["error_class"]) == ("failed", "unreadable")
    assert video["error_message"] == "part 0"


def test_parts_that_saw_different_frames_at_their_seam_are_said(planned, fakes):
    for number in range(3):
        publish(planned, fakes, number, **({"head": "other"} if number == 2 else {}))
    planned.settle_parts(["v"])
    (_, seam) = planned.get_video("v")["warnings"]
    assert "0:40:00" in seam


def test_a_plan_takes_the_place_of_another_cut_and_of_older_content_when_it_is_done(store, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 5))
    store.publish(*fakes.tables_of("old", "/w.mp4", 1))
    rows = [
        fakes.video_row(i, uri, 0, status="failed", error_class=PARTS_MISSING, num_parts=1)
        for i, uri in (("v", "/v.mp4"), ("w", "/w.mp4"))
    ]
    parts = parts_table(part_row(0), part_row(0, "w"))
    store.plan_parts(pa.Table.from_pylist(rows, schema=schemas.VIDEOS), parts)
    assert store.events_of("v").num_rows == 0
    assert store.tables.features.count_rows("video_id = 'v'") == 0
    assert store.events_of("old").num_rows == 1
    publish(store, fakes, 0)
    store.settle_parts(["v", "w"])
    assert store.get_video("v")["status"] == "indexed"
    assert store.get_video("old") is not None


def test_deleting_a_recording_forgets_its_parts(planned, fakes):
    publish(planned, fakes, 0)
    planned.delete_video("/v.mp4")
    assert planned.parts().num_rows == 0
    assert planned.tables.events.count_rows() == 0


def test_a_memory_without_long_recordings_has_no_parts(store):
    assert store.parts().num_rows == 0
    assert store.parts().schema == PARTS


def test_parts_that_break_a_rule_are_refused(planned, fakes):
    with pytest.raises(MemoryStoreError, match="says 3 events; got 2"):
        publish(planned, fakes, 0, num_events=3)
    with pytest.raises(MemoryStoreError, match="status 'failed'"):
        publish(planned, fakes, 0, status="failed")
    assert planned.tables.events.count_rows() == 0


def test_times_are_said_as_people_read_them():
    assert [clock_text(s) for s in (0.0, 59.9, 3600.0, 90061.0)] == [
        "0:00:00", "0:00:59", "1:00:00", "25:01:01",
    ]  # fmt: skip
