"""Videos obey the world's rules: tiling, lengths, places, room, looks; streams are independent."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from marc_core.world import WorldConfig, WorldVideo, archive_config, object_states, sample_video
from marc_core.world.actors import action_shares
from marc_core.world.states import event_states
from marc_core.world.words import ACTIONS


@pytest.fixture(scope="module")
def videos() -> list[WorldVideo]:
    return [sample_video(seed, WorldConfig(max_objects=4)) for seed in range(60)]


def test_events_tile_the_video_and_last_two_to_ten_seconds(videos: list[WorldVideo]) -> None:
    for video in videos:
        assert video.events[0].start_s == 0
        assert all(a.end_s == b.start_s for a, b in pairwise(video.events))
        assert all(1.95 <= e.duration_s <= 10.05 for e in video.events)
        assert 3 <= len(video.events) <= 6


def test_neighbours_have_different_backgrounds_and_short_videos_repeat_none() -> None:
    long = sample_video(5, archive_config(min_duration_s=300))
    assert all(a.background != b.background for a, b in pairwise(long.events))
    for seed in range(40):
        places = [e.background for e in sample_video(seed).events]
        assert len(set(places)) == len(places)


def test_all_kinds_of_transitions_occur_and_leave_most_of_a_scene(videos: list[WorldVideo]) -> None:
    assert {t.kind for v in videos for t in v.transitions} == {"cut", "dissolve", "slow"}
    for video in videos:
        for t in video.transitions:
            around = (video.events[t.index - 1], video.events[t.index])
            assert t.time_s == around[1].start_s
            assert t.length_s <= 0.4 * min(e.duration_s for e in around) + 1e-9
            assert (t.length_s == 0) == (t.kind == "cut")


def test_objects_of_a_scene_never_share_a_colour_or_shape(videos: list[WorldVideo]) -> None:
    for event in (e for v in videos for e in v.events):
        colours = [c for o in event.objects for _, c in o.colours]
        shapes = [s for o in event.objects for _, s in o.shapes]
        assert len(set(colours)) == len(colours)
        assert len(set(shapes)) == len(shapes)


def test_objects_stay_inside_and_touch_only_their_partner(videos: list[WorldVideo]) -> None:
    for event in (e for v in videos[:30] for e in v.events):
        for tick in range(int(event.duration_s * 5)):
            states = event_states(event, tick / 5)
            for s in states:
                assert s.radius <= s.x + 1e-9
                assert s.x + s.radius <= 1 + 1e-9
                assert s.radius <= s.y + 1e-9
                assert s.y + s.radius <= 1 + 1e-9
            for a in states:
                for b in states[a.index + 1 :]:
                    if event.objects[a.index].partner != b.index:
                        apart = max(abs(a.x - b.x), abs(a.y - b.y))
                        assert apart >= a.radius + b.radius


def test_every_action_occurs_about_as_often_as_stated() -> None:
    config = WorldConfig()
    mains = [e.objects[0].action for s in range(900) for e in sample_video(s, config).events]
    for action, share in action_shares(config).items():
        assert mains.count(action) / len(mains) == pytest.approx(share, abs=0.02), action
    assert sum(action_shares(config).values()) == pytest.approx(1)
    assert set(mains) == set(ACTIONS)


def test_nuisances_and_frame_rate_do_not_change_what_happens() -> None:
    plain = WorldConfig()
    other = replace(plain, noise=0, brightness_drift=0, shake=0.0, fps=25, size_px=56)
    for seed in range(10):
        assert sample_video(seed, plain).events == sample_video(seed, other).events


def test_salt_and_seed_give_other_videos() -> None:
    base = sample_video(1)
    assert base.events != sample_video(2).events
    assert base.events != sample_video(1, WorldConfig(salt=1)).events


def test_states_belong_to_the_event_at_that_time(videos: list[WorldVideo]) -> None:
    video = videos[0]
    for event in video.events:
        first, last = object_states(video, [event.start_s, event.end_s - 0.01])
        assert {s.event for s in (*first, *last)} == {event.index}
    with pytest.raises(ValueError, match="Times must be in"):
        object_states(video, [video.duration_s + 0.1])
