"""Ids are functions of content, and fit their documented forms."""

from marc_core.schemas import make_event_id, make_feature_id, make_video_id


def test_video_id_changes_with_each_part() -> None:
    base = make_video_id("a.mp4", 10, "v1")
    others = [("b.mp4", 10, "v1"), ("a.mp4", 11, "v1"), ("a.mp4", 10, "v2"), ("a.mp4", 1, "0v1")]
    ids = {base, *(make_video_id(*o) for o in others)}
    assert len(ids) == 5
    assert base == make_video_id("a.mp4", 10, "v1")
    assert len(base) == 20


def test_event_ids_sort_by_index() -> None:
    ids = [make_event_id("v", i) for i in (0, 9, 10, 99999)]
    assert ids == sorted(ids)
    assert make_feature_id(ids[0], "m") == "v:00000@m"
