"""Ground truth at any time: where every object is and what it looks like."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from marc_core.world.types import ObjectState, WorldEvent, WorldObject, WorldVideo

T = TypeVar("T")


def event_at(video: WorldVideo, time_s: float) -> WorldEvent:
    """Return the event that holds `time_s`; the last one at the video's very end.

    Raises ValueError when the time lies outside the video.
    """
    if not 0 <= time_s <= video.duration_s:
        raise ValueError(f"Times must be in 0 - {video.duration_s} s (the video). Got {time_s}.")
    starts = [event.start_s for event in video.events]
    return video.events[bisect_right(starts, time_s) - 1]


def object_states(
    video: WorldVideo, times_s: Sequence[float]
) -> tuple[tuple[ObjectState, ...], ...]:
    """Return, for every time, the states of all objects of the event that holds it.

    During a transition the states are those of the event whose half it is.
    Raises ValueError when a time lies outside the video.
    """
    states = []
    for time_s in times_s:
        event = event_at(video, float(time_s))
        states.append(event_states(event, float(time_s) - event.start_s))
    return tuple(states)


def event_states(event: WorldEvent, local_s: float) -> tuple[ObjectState, ...]:
    """Return the states of an event's objects `local_s` seconds after its start."""
    places = [position(thing, local_s) for thing in event.objects]
    sizes = [radius_at(thing, local_s) for thing in event.objects]
    states = []
    for thing, (x, y), radius in zip(event.objects, places, sizes, strict=True):
        visible = step(thing.shown, local_s)
        if thing.action == "hides" and thing.partner is not None:
            cover_x, cover_y = places[thing.partner]
            apart = max(abs(x - cover_x), abs(y - cover_y))
            visible = visible and apart + radius > 0.85 * sizes[thing.partner]
        states.append(
            ObjectState(
                event=event.index,
                index=thing.index,
                colour=step(thing.colours, local_s),
                shape=step(thing.shapes, local_s),
                x=x,
                y=y,
                radius=radius,
                visible=visible,
            )
        )
    return tuple(states)


def position(thing: WorldObject, local_s: float) -> tuple[float, float]:
    """Return (x, y) of an object, each a fraction of the frame's side."""
    path = thing.path
    if local_s <= path[0][0] or len(path) == 1:
        return path[0][1], path[0][2]
    for (t0, x0, y0), (t1, x1, y1) in pairwise(path):
        if local_s < t1:
            share = (local_s - t0) / (t1 - t0)
            return x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
    return path[-1][1], path[-1][2]


def radius_at(thing: WorldObject, local_s: float) -> float:
    """Return the radius of an object as a fraction of the frame's side."""
    radii = thing.radii
    if local_s <= radii[0][0] or len(radii) == 1:
        return radii[0][1]
    for (t0, r0), (t1, r1) in pairwise(radii):
        if local_s < t1:
            return r0 + (r1 - r0) * (local_s - t0) / (t1 - t0)
    return radii[-1][1]


def step(steps: tuple[tuple[float, T], ...], local_s: float) -> T:
    """Return the value of a step function: that of the last step not after `local_s`."""
    value = steps[0][1]
    for at_s, later in steps[1:]:
        if at_s > local_s:
            break
        value = later
    return value
