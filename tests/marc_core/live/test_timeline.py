"""Where packets lie: wraps, jumps, the source's clock and that of their arrival."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from marc_core.live.timeline import ARRIVAL, WRAP_S, Timeline


def run(stamps, walls=None, nows=None, jump_s=2.0):
    timeline = Timeline(jump_s)
    walls = walls or [None] * len(stamps)
    nows = nows or [1000.0 + i for i in range(len(stamps))]
    return [
        timeline.place(s, wall_s=w, clock="pdt", now_s=n)
        for s, w, n in zip(stamps, walls, nows, strict=True)
    ]


def test_a_wrap_is_no_jump() -> None:
    start = WRAP_S - 1.5
    placed = run([(start + i) % WRAP_S for i in range(4)], walls=[50.0 + i for i in range(4)])
    assert [p.broken for p in placed] == [None] * 4
    assert [round(p.time_s - start, 6) for p in placed] == [0, 1, 2, 3]


@settings(deadline=None)
@given(
    start=st.floats(0, WRAP_S, allow_nan=False),
    steps=st.lists(st.floats(0.01, 1.9), min_size=1, max_size=30),
)
def test_stamps_that_go_on_are_never_broken_whereever_they_wrap(
    start: float, steps: list[float]
) -> None:
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    placed = run([t % WRAP_S for t in times])
    assert not any(p.broken for p in placed)
    assert all(
        abs((p.time_s - placed[0].time_s) - (t - start)) < 1e-4
        for p, t in zip(placed, times, strict=True)
    )


def test_sound_is_placed_near_the_pictures_on_both_sides_of_a_wrap() -> None:
    timeline = Timeline(2.0)
    timeline.place(WRAP_S - 0.1, wall_s=None, clock="", now_s=0.0)
    assert abs(timeline.near(0.05) - (WRAP_S + 0.05)) < 1e-6
    timeline.place(0.1, wall_s=None, clock="", now_s=0.2)
    assert abs(timeline.near(WRAP_S - 0.05) - (WRAP_S - 0.05)) < 1e-6


def test_jumps_are_said_with_their_size() -> None:
    back, ahead = run([10, 11, 5])[2], run([10, 11, 20])[2]
    assert back.broken == "timestamps went back by 6.0 s"
    assert ahead.broken == "no pictures for 9.0 s"
    clock = run([10, 11, 12, 13], walls=[100, 101, 3702, 3703])
    assert [p.broken for p in clock] == [
        None, None, "the source's clock jumped by +3600.0 s", None,
    ]  # fmt: skip
    other = run([10, 11], walls=[None, 500.0])[1]
    assert (other.broken, other.clock) == ("the clock is pdt now", "pdt")


def test_arrival_counts_from_the_least_delay_and_is_not_moved_by_a_stall() -> None:
    nows = [100.0, 100.6, 102.0, 106.0, 106.1, 106.2]  # 0.4 s too late at first; then a stall
    placed = run([0, 1, 2, 3, 4, 5], nows=nows)
    assert {p.clock for p in placed} == {ARRIVAL}
    assert [round(p.wall_s, 2) for p in placed] == [100.0, 100.6, 101.6, 102.6, 103.6, 104.6]


def test_arrival_follows_a_clock_that_drifts() -> None:
    stamps = [float(i) for i in range(3600)]
    nows = [1000 + 1.0005 * i for i in stamps]  # half a second in 1000
    last = run(stamps, nows=nows)[-1]
    assert abs(last.wall_s - nows[-1]) < 0.01
