"""A memory of many videos in miniature: budgets are spread, and answers hold."""

from __future__ import annotations

import pytest

from benchmarks.thousand_videos import measure, table
from benchmarks.world_memory import ONE_IN, decoded, draw_archive
from marc_core.world.naming import shows


def test_some_videos_show_an_object_that_no_other_video_shows():
    videos = draw_archive(2 * ONE_IN)
    for place in (0, ONE_IN):
        event = videos[place].events[0]
        look = {"colour": event.objects[0].colour, "shape": event.objects[0].shape}
        same = [
            v.seed
            for v in videos
            if any(e.background == event.background and shows(e, **look) for e in v.events)
        ]
        assert same == [videos[place].seed]
    assert len({v.seed for v in videos}) == len(videos)


def test_true_boundaries_become_the_events():
    video = draw_archive(1)[0]
    made = decoded(video)
    at = made.times_s[made.shot_scores > 0]
    assert len(at) == len(video.events) - 1
    for second, event in zip(at, video.events[1:], strict=True):
        assert 0 <= second - event.start_s < 0.1 + 1e-6


@pytest.mark.slow
def test_one_frames_tokens_answer_about_one_video_and_spread_over_many(tmp_path):
    report = measure(draw_archive(40), tmp_path / "memory")
    video, everything = report["named"]["video"], report["named"]["everything"]
    many = report["many"]["everything"]
    assert video["visual_tokens"] == everything["visual_tokens"] == many["visual_tokens"] == 9
    assert video["right"][0] >= 80  # 22 questions of three chances in four and worse
    assert everything["events_in_scope"] > 10 * video["events_in_scope"]
    assert everything["evidence_shown"] >= 80
    assert everything["right"][0] >= 80
    assert many["events_that_fit"] > 2  # few of 109: the best two and their neighbours are read
    assert many["right_of_one_chosen"] >= 90
    assert "| everything |" in table(report)
    again = measure(draw_archive(40), tmp_path / "memory")  # nothing is made twice
    assert again["named"] == report["named"]
