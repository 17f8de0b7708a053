"""Ids are functions of content, and fit their documented forms."""

import pytest

from marc_core.schemas import folder_of, make_event_id, make_feature_id, make_text_id, make_video_id


def test_video_id_changes_with_each_part() -> None:
    base = make_video_id("a.mp4", 10, "v1")
    others = [("b.mp4", 10, "v1"), ("a.mp4", 11, "v1"), ("a.mp4", 10, "v2"), ("a.mp4", 1, "0v1")]
    ids = {base, *(make_video_id(*o) for o in others)}
    assert len(ids) == 5
    assert base == make_video_id("a.mp4", 10, "v1")
    assert len(base) == 20


def test_event_ids_sort_by_part_and_index() -> None:
    places = [(0, 0), (0, 9), (0, 10), (0, 99999), (1, 0), (12, 3)]
    ids = [make_event_id("v", part, index) for part, index in places]
    assert ids == sorted(ids)
    assert ids[-1] == "v:0012:00003"


def test_what_describes_an_event_is_named_after_it() -> None:
    event = make_event_id("v", 0, 3)
    assert make_feature_id(event, "m") == "v:0000:00003@m"
    assert make_text_id(event, "speech", 7) == "v:0000:00003:speech:007"


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("/archive/day 1/a.mp4", "/archive/day 1"),
        ("s3://bucket/a.mp4", "s3://bucket"),
        ("/a.mp4", ""),
        ("a.mp4", ""),
        ("/archive/a.mkv#1", "/archive"),
        ("file:///archive/day%201/caf%E9.mp4#1", "/archive/day 1"),
        ("file:///archive/caf%E9/a.mp4", "file:///archive/caf%E9"),
    ],
)
def test_folder(uri: str, folder: str) -> None:
    assert folder_of(uri) == folder
