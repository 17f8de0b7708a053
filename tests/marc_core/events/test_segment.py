import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marc_core.config import EventConfig
from marc_core.events import frames_to_add, segment
from marc_core.video.sampling import thin

CONFIG = EventConfig()


@st.composite
def videos(draw):
    """Timestamps with gaps, random scores, sampled frames with or without embeddings."""
    F = draw(st.integers(1, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gaps = rng.choice([0.02, 0.04, 0.5, 3.0, 40.0], F, p=[0.4, 0.4, 0.1, 0.08, 0.02])
    times_s = draw(st.sampled_from([0.0, 1.075, 1e5])) + np.cumsum(gaps)
    scores = (rng.random(F) ** draw(st.sampled_from([1, 4, 30]))).astype(np.float32)
    sampled = np.flatnonzero(rng.random(F) < draw(st.sampled_from([0.05, 0.5, 1.0])))
    embeddings = rng.normal(size=(len(sampled), 4)) if draw(st.booleans()) else None
    dark = rng.random(F) < 0.3 if draw(st.booleans()) else None
    return times_s, scores, sampled, embeddings, dark


@settings(max_examples=150, deadline=None)
@given(videos(), st.sampled_from([0.0, 0.5, 1.0, 10.0]), st.sampled_from([20.0, 60.0, 1e9]))
def test_events_tile_the_video(video, min_event_s, max_event_s):
    times_s, scores, sampled, embeddings, dark = video
    config = EventConfig(min_event_s=min_event_s, max_event_s=max_event_s)
    events = segment(times_s, scores, sampled, embeddings, config, dark_F=dark)
    assert [e.index for e in events] == list(range(len(events)))
    frames = [f for e in events for f in range(e.first_frame, e.end_frame)]
    assert frames == list(range(len(times_s)))
    assert all(e.start_s == times_s[e.first_frame] for e in events)
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(events))
    assert events[-1].end_s > times_s[-1]
    assert events[0].kind == "start"
    assert all(e.kind != "start" for e in events[1:])
    assert all(0 <= e.score <= 1 for e in events)
    if len(events) > 1:
        assert min(e.end_s - e.start_s for e in events) >= min_event_s - 1e-6
    for e in events:
        longest_gap_s = np.diff(times_s[e.first_frame : e.end_frame], append=e.end_s).max()
        inside = sampled[(sampled >= e.first_frame) & (sampled < e.end_frame)]
        apart_s = np.diff([e.start_s, *times_s[inside], e.end_s]).max()  # no cut without samples
        spare_s = 2 * max(longest_gap_s, apart_s) + min_event_s
        assert e.end_s - e.start_s <= max_event_s + spare_s


def _uniform(seconds, fps=25):
    F = round(seconds * fps)
    return np.arange(F) / fps, np.zeros(F, np.float32), np.arange(0, F, fps)


def test_one_frame_is_one_event():
    (event,) = segment(np.array([1.5]), np.zeros(1, np.float32), np.array([0]), None, CONFIG)
    assert (event.first_frame, event.end_frame, event.start_s) == (0, 1, 1.5)
    assert event.end_s > 1.5


def test_shot_boundary_splits_where_the_new_shot_begins():
    times_s, scores, sampled = _uniform(10)
    scores[99] = 0.9
    first, second = segment(times_s, scores, sampled, None, CONFIG)
    assert (first.end_frame, second.first_frame, second.start_s) == (100, 100, 4.0)
    assert (second.kind, second.end_s) == ("shot", pytest.approx(10.0))
    assert second.score == pytest.approx(0.9)


def test_a_transition_at_the_last_frame_begins_nothing():
    times_s, scores, sampled = _uniform(3)
    scores[-1] = 0.9
    assert len(segment(times_s, scores, sampled, None, CONFIG)) == 1


@pytest.mark.parametrize(("left", "right", "start"), [(0.6, 0.9, 120), (0.9, 0.6, 100)])
def test_a_short_event_joins_the_neighbour_behind_its_weaker_boundary(left, right, start):
    times_s, scores, sampled = _uniform(10)
    scores[99], scores[119] = left, right
    events = segment(times_s, scores, sampled, None, CONFIG)
    assert [e.first_frame for e in events] == [0, start]


def test_long_events_are_split_on_a_grid_from_their_start():
    times_s, scores, sampled = _uniform(150)
    events = segment(times_s, scores, sampled, None, CONFIG)
    assert [e.start_s for e in events] == [0.0, 60.0, 120.0]
    assert [e.kind for e in events] == ["start", "max_length", "max_length"]
    assert len(segment(*_uniform(120.5), None, CONFIG)) == 2  # half a second stays with the rest


@settings(max_examples=60, deadline=None)
@given(videos(), st.data())
def test_where_a_video_ends_moves_no_cut_but_in_its_last_shot(video, data):
    """Noise of change points is that of a shot, and long events are split from their start."""
    times_s, scores, sampled, embeddings, _ = video
    config = EventConfig(min_event_s=0.0, max_event_s=20.0, change_point_min_shot_s=5.0)
    F = data.draw(st.integers(1, len(times_s)))
    whole = segment(times_s, scores, sampled, embeddings, config)
    inside = sampled < F
    part = segment(
        times_s[:F], scores[:F], sampled[inside],
        None if embeddings is None else embeddings[inside], config,
    )  # fmt: skip
    shots = [e.first_frame for e in part if e.kind in ("start", "shot")]
    last = shots[-2] if len(shots) > 1 else 0  # the end may cut a transition in two

    def before(events):
        return [(e.first_frame, e.kind, e.score) for e in events if e.first_frame < last]

    assert before(part) == before(whole)


def _two_topics(seconds, change_s):
    rng = np.random.default_rng(0)
    x = 0.02 * rng.normal(size=(seconds, 8))
    x[:change_s, 0] += 1
    x[change_s:, 1] += 1
    return x


def test_a_change_of_content_splits_a_long_shot():
    times_s, scores, sampled = _uniform(40)
    _, second = segment(times_s, scores, sampled, _two_topics(40, 25), CONFIG)
    assert second.kind == "semantic"
    assert 24.0 < second.start_s <= 25.0
    assert second.score == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "config", [EventConfig(change_points=False), EventConfig(change_point_min_shot_s=41.0)]
)
def test_change_points_can_be_kept_out(config):
    times_s, scores, sampled = _uniform(40)
    assert len(segment(times_s, scores, sampled, _two_topics(40, 25), config)) == 1


def test_only_the_long_shot_is_searched():
    """The change at 25 s lies in a shot of 15 s, which is left alone."""
    times_s, scores, sampled = _uniform(40)
    scores[15 * 25 - 1] = scores[30 * 25 - 1] = 0.9
    events = segment(times_s, scores, sampled, _two_topics(40, 25), CONFIG)
    assert [e.start_s for e in events] == [0.0, 15.0, 30.0]


@settings(max_examples=100, deadline=None)
@given(videos(), st.data())
def test_no_event_spans_a_gap(video, data):
    times_s, scores, sampled, embeddings, dark = video
    where = st.lists(st.integers(1, max(1, len(times_s) - 1)), max_size=3, unique=True)
    jumps = sorted(data.draw(where)) if len(times_s) > 1 else []
    times_s, gaps = times_s.copy(), []
    for frame in jumps:
        times_s[frame:] += 600.0
        gaps.append((float(times_s[frame - 1] + 0.01), float(times_s[frame])))
    end_s = float(times_s[-1] + 0.01)
    events = segment(
        times_s, scores, sampled, embeddings, CONFIG, dark_F=dark, gaps=gaps, end_s=end_s
    )
    frames = [f for e in events for f in range(e.first_frame, e.end_frame)]
    assert frames == list(range(len(times_s)))
    assert (events[0].start_s, events[-1].end_s) == (times_s[0], end_s)
    breaks = [(a.end_s, b.start_s) for a, b in itertools.pairwise(events) if a.end_s != b.start_s]
    assert breaks == gaps
    assert [e.first_frame for e in events if e.kind == "gap"] == jumps
    between = [0, *jumps, len(times_s)]
    for first, end in itertools.pairwise(between):
        parts = [e for e in events if first <= e.first_frame < end]
        if len(parts) > 1:
            assert min(e.end_s - e.start_s for e in parts) >= CONFIG.min_event_s - 1e-6


def test_a_cut_at_a_gap_is_one_boundary():
    times_s, scores, sampled = _uniform(20)
    times_s[250:] += 600.0
    scores[248:251] = 0.9
    events = segment(times_s, scores, sampled, None, CONFIG, gaps=[(10.0, times_s[250])])
    assert [(e.first_frame, e.end_frame, e.kind) for e in events] == [
        (0, 250, "start"), (250, 500, "gap")
    ]  # fmt: skip
    assert [e.end_s for e in events] == pytest.approx([10.0, 620.0])


@settings(max_examples=200, deadline=None)
@given(
    videos(),
    st.sampled_from([0.0, 1.0, 10.0]),
    st.sampled_from([20.0, 60.0, 1e9]),
    st.sampled_from([0.5, 1.0, 4.0, 16.0, 200.0]),
    st.booleans(),
)
def test_every_event_holds_a_sample_at_any_interval(
    video, min_event_s, max_event_s, interval_s, cut_by_content
):
    times_s, scores, _, _, dark = video
    config = EventConfig(
        min_event_s=min_event_s, max_event_s=max_event_s, change_point_min_shot_s=5.0
    )
    sampled = np.array(thin(times_s.tolist(), interval_s))
    more = frames_to_add(times_s, scores, sampled, config, dark_F=dark)
    assert not set(more) & set(sampled)
    sampled = np.sort(np.concatenate([sampled, more]))
    rng = np.random.default_rng(len(times_s))
    embeddings = rng.normal(size=(len(sampled), 4)) if cut_by_content else None
    for event in segment(times_s, scores, sampled, embeddings, config, dark_F=dark):
        inside = (sampled >= event.first_frame) & (sampled < event.end_frame)
        assert inside.any()


def test_a_short_shot_without_a_sample_gets_its_middle_frame():
    times_s, scores, _ = _uniform(12)
    scores[[60, 90]] = 0.9
    (added,) = frames_to_add(times_s, scores, np.array([0, 50, 100, 150, 200, 250]), CONFIG)
    assert added == 75 or added == 76
    assert len(frames_to_add(times_s, scores, np.arange(0, 300, 25), CONFIG)) == 0


def test_a_shot_that_is_sampled_in_black_only_gets_a_frame_that_shows_it():
    """Orange, a second of black, purple: the cut lies half-way through the black."""
    times_s, scores, _ = _uniform(12)
    scores[[60, 90, 115, 145]] = 0.9
    dark = np.zeros(300, bool)
    dark[90:116] = True
    sampled = np.array([0, 50, 100, 125, 150, 200, 250])
    (added,) = frames_to_add(times_s, scores, sampled, CONFIG, dark_F=dark)
    assert 61 <= added < 90
