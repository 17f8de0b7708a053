"""The objects of a scene: who is there, and how each one acts.

The main object acts first (moves, hits, hides, ...); bystanders are put where they touch nobody's
way and may act in place. Within a scene all colours differ and all shapes differ, those after a
change included, so that "the circle" or "the red object" means one object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from marc_core.world.config import WorldConfig
from marc_core.world.streams import Stream
from marc_core.world.types import WorldObject
from marc_core.world.words import (
    ACTION_WEIGHTS,
    ACTIONS,
    COLOURS,
    DIRECTIONS,
    IN_PLACE_ACTIONS,
    PAIR_ACTIONS,
    SHAPES,
    SHORTEST_S,
    SPEEDS,
)

EDGE = 0.03
"""Free space kept at the frame's edge."""
GAP = 0.025
"""Free space kept between objects that do not touch."""
RADII = (0.10, 0.13)
"""Radius of objects that keep their size: small, large."""
GROWTH = (0.075, 0.155)
"""Radius before and after growing."""
HIDER_RADIUS, COVER_RADIUS = 0.085, 0.19
SLOW_SCENE_S = 3.4
"""Shortest scene in which a slow object goes far enough to be seen moving."""
SLOW_SHARE = 0.74
"""Share of slow movers in scenes long enough; a quarter of the scenes is too short and moves
more often, so that slow and fast come out equally often."""
PLACING_TRIES = 120


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours and shapes not yet used in the scene; taken from the front."""

    colours: list[str]
    shapes: list[str]


def sample_objects(
    stream: Stream, config: WorldConfig, length_s: float, fade_in_s: float, fade_out_s: float
) -> tuple[WorldObject, ...]:
    """Return the objects of a scene of `length_s`, the main one first, its partner second.

    Actions keep off the first and last tenth and the transitions (`fade_in_s`, `fade_out_s`).
    """
    window = (max(0.1 * length_s, fade_in_s), length_s - max(0.1 * length_s, fade_out_s))
    allowed = allowed_actions(config, length_s)
    action = stream.weighted(allowed, [ACTION_WEIGHTS[a] for a in allowed])
    look = Look(colours=stream.shuffled(list(COLOURS)), shapes=stream.shuffled(SHAPES))
    if action in PAIR_ACTIONS:
        objects = _pair(stream, look, action, window)
    else:
        objects = [_single(stream, look, action, window, length_s)]
    fewest = max(config.min_objects, len(objects))
    for _ in range(stream.between(fewest, config.max_objects) - len(objects)):
        extra = "does nothing"
        if stream.chance(config.extra_action):
            extra = stream.choice([a for a in IN_PLACE_ACTIONS if _fits(a, length_s, look)])
        placed = _bystander(stream, look, objects, extra, window, length_s)
        if placed is not None:
            objects.append(placed)
    return tuple(objects)


def allowed_actions(config: WorldConfig, length_s: float) -> list[str]:
    """Return what the main object of a scene of `length_s` may do, "does nothing" if nothing."""
    allowed = [
        action
        for action in config.actions or ACTIONS
        if SHORTEST_S.get(action, 0.0) <= length_s
        and (action not in PAIR_ACTIONS or config.max_objects > 1)
    ]
    return allowed or ["does nothing"]


def action_shares(config: WorldConfig) -> dict[str, float]:
    """Return how often the main object does what, over all scene lengths; they sum to 1."""
    shares: dict[str, float] = {}
    for length_s in config.scene_lengths_s:
        allowed = allowed_actions(config, length_s)
        total = sum(ACTION_WEIGHTS[a] for a in allowed) * len(config.scene_lengths_s)
        for action in allowed:
            shares[action] = shares.get(action, 0.0) + ACTION_WEIGHTS[action] / total
    return shares


def _fits(action: str, length_s: float, look: Look) -> bool:
    """A change of shape needs two more shapes, and two must stay for further bystanders."""
    enough = action != "changes shape" or len(look.shapes) >= 4
    return SHORTEST_S.get(action, 0.0) <= length_s and enough


def _plain(stream: Stream, look: Look, index: int, *, radius: float) -> WorldObject:
    return WorldObject(
        index=index,
        action="does nothing",
        path=((0.0, 0.5, 0.5),),
        radii=((0.0, radius),),
        colours=((0.0, look.colours.pop(0)),),
        shapes=((0.0, look.shapes.pop(0)),),
        layer=1,
    )


def _single(
    stream: Stream, look: Look, action: str, window: tuple[float, float], length_s: float
) -> WorldObject:
    thing = _plain(stream, look, 0, radius=stream.choice(RADII))
    if action == "moves":
        return _move(stream, thing, window, length_s)
    thing = _in_place(stream, look, thing, action, window, length_s)
    reach = _reach(thing) + EDGE
    x, y = stream.uniform(reach, 1 - reach), stream.uniform(reach, 1 - reach)
    return replace(thing, path=((0.0, x, y),))


def _move(
    stream: Stream, thing: WorldObject, window: tuple[float, float], length_s: float
) -> WorldObject:
    direction = stream.choice(list(DIRECTIONS))
    slow = length_s >= SLOW_SCENE_S and stream.chance(SLOW_SHARE)
    speed = "slowly" if slow else "fast"
    velocity = stream.uniform(*SPEEDS[speed])
    low = _reach(thing) + EDGE
    room = 1 - 2 * low
    longest = min(room, velocity * (window[1] - window[0]))
    distance = longest if speed == "slowly" else stream.uniform(min(0.5, longest), longest)
    time = distance / velocity
    start_s = stream.uniform(window[0], window[1] - time)
    first = low + stream.uniform(0.0, room - distance)
    lane = stream.uniform(low, 1 - low)
    dx, dy = DIRECTIONS[direction]
    ends = (first, first + distance) if dx + dy > 0 else (first + distance, first)
    (x0, y0), (x1, y1) = ((e, lane) if dx else (lane, e) for e in ends)
    path = ((start_s, x0, y0), (start_s + time, x1, y1))
    return replace(thing, action="moves", path=path, direction=direction, speed=speed)


def _in_place(
    stream: Stream,
    look: Look,
    thing: WorldObject,
    action: str,
    window: tuple[float, float],
    length_s: float,
) -> WorldObject:
    """Return `thing` doing `action` without leaving its place."""
    thing = replace(thing, action=action)
    at_s = _moment(stream, window, length_s)
    if action == "appears":
        return replace(thing, shown=((0.0, False), (at_s, True)))
    if action == "vanishes":
        return replace(thing, shown=((0.0, True), (at_s, False)))
    if action == "blinks":
        return replace(thing, shown=_blinking(stream, window, length_s))
    if action == "changes colour":
        return replace(thing, colours=(*thing.colours, (at_s, look.colours.pop(0))))
    if action == "changes shape":
        return replace(thing, shapes=(*thing.shapes, (at_s, look.shapes.pop(0))))
    if action in ("grows", "shrinks"):
        time = min(stream.uniform(1.2, 2.5), window[1] - window[0])
        start_s = stream.uniform(window[0], window[1] - time)
        before, after = GROWTH if action == "grows" else GROWTH[::-1]
        return replace(thing, radii=((start_s, before), (start_s + time, after)))
    return thing


def _moment(stream: Stream, window: tuple[float, float], length_s: float) -> float:
    """Return a time with at least a second before and after, so that 1 fps shows both sides."""
    low, high = max(window[0], 1.0), min(window[1], length_s - 1.0)
    return stream.uniform(low, high) if low < high else length_s / 2


def _blinking(
    stream: Stream, window: tuple[float, float], length_s: float
) -> tuple[tuple[float, bool], ...]:
    """Return on and off for a second each: frames one second apart then alternate."""
    steps = [(0.0, True)]
    at_s = window[0] + stream.uniform(0.0, 0.5)
    while at_s < length_s:
        steps.append((at_s, not steps[-1][1]))
        at_s += 1.0
    return tuple(steps)


def _pair(
    stream: Stream, look: Look, action: str, window: tuple[float, float]
) -> list[WorldObject]:
    if action == "hides":
        return _hide(stream, look, window)
    first = _plain(stream, look, 0, radius=stream.choice(RADII))
    second = _plain(stream, look, 1, radius=stream.choice(RADII))
    a, b = first.radii[0][1], second.radii[0][1]
    time = min(window[1] - window[0], stream.uniform(2.6, 3.2))
    start_s = stream.uniform(window[0], window[1] - time)
    starts = (a + EDGE, 1 - b - EDGE)
    ends = (1 - a - EDGE, b + EDGE)
    meeting = ((starts[0] + ends[0]) / 2, (starts[1] + ends[1]) / 2)
    if action == "hits":
        touch = stream.uniform(0.44, 0.56)
        ends, meeting = starts, (touch - a, touch + b)
    times = (start_s, start_s + time / 2, start_s + time)
    ways = [tuple(zip(times, w, strict=True)) for w in zip(starts, meeting, ends, strict=True)]
    lane, upright, mirrored = stream.uniform(0.2, 0.8), stream.chance(0.5), stream.chance(0.5)
    pair = []
    for thing, way, layer in zip((first, second), ways, (2, 1), strict=True):
        along = [(t, 1 - p if mirrored else p) for t, p in way]
        path = tuple((t, lane, p) if upright else (t, p, lane) for t, p in along)
        partner = 1 - thing.index
        heading = _heading(path) if action == "passes" else None
        pair.append(
            replace(
                thing, action=action, path=path, layer=layer, partner=partner, direction=heading
            )
        )
    return pair


def _heading(path: tuple[tuple[float, float, float], ...]) -> str:
    """Return the direction from the first to the last knot of a way along an axis."""
    dx, dy = path[-1][1] - path[0][1], path[-1][2] - path[0][2]
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _hide(stream: Stream, look: Look, window: tuple[float, float]) -> list[WorldObject]:
    """Return an object that goes behind a large circle or square and stays there."""
    cover_shape = stream.choice(("circle", "square"))
    look.shapes.remove(cover_shape)
    hider = _plain(stream, look, 0, radius=HIDER_RADIUS)
    look.shapes.insert(0, cover_shape)
    cover = _plain(stream, look, 1, radius=COVER_RADIUS)
    side = stream.choice(list(DIRECTIONS))
    dx, dy = DIRECTIONS[side]
    distance = stream.uniform(0.38, 0.5)
    low, high = COVER_RADIUS + EDGE, 1 - COVER_RADIUS - EDGE
    far_low, far_high = EDGE + HIDER_RADIUS + distance, 1 - EDGE - HIDER_RADIUS - distance
    along = stream.uniform(low, min(high, far_high))
    if dx + dy < 0:
        along = stream.uniform(max(low, far_low), high)
    across = stream.uniform(low, high)
    x, y = (along, across) if dx else (across, along)
    time = min(distance / stream.uniform(0.2, 0.26), window[1] - window[0])
    start_s = stream.uniform(window[0], window[1] - time)
    start = (start_s, x + dx * distance, y + dy * distance)
    path = (start, (start_s + time, x, y))
    hidden = replace(hider, action="hides", path=path, layer=0, partner=1, direction=_heading(path))
    return [hidden, replace(cover, path=((0.0, x, y),), layer=2, partner=0)]


def _bystander(
    stream: Stream,
    look: Look,
    others: list[WorldObject],
    action: str,
    window: tuple[float, float],
    length_s: float,
) -> WorldObject | None:
    """Return an object in a free place, or None when the scene is full."""
    thing = _plain(stream, look, len(others), radius=stream.choice(RADII))
    thing = _in_place(stream, look, thing, action, window, length_s)
    reach = _reach(thing)
    for _ in range(PLACING_TRIES):
        x = stream.uniform(reach + EDGE, 1 - reach - EDGE)
        y = stream.uniform(reach + EDGE, 1 - reach - EDGE)
        if all(_distance(x, y, o) >= reach + _reach(o) + GAP for o in others):
            return replace(thing, path=((0.0, x, y),))
    return None


def _reach(thing: WorldObject) -> float:
    return max(radius for _, radius in thing.radii)


def _distance(x: float, y: float, thing: WorldObject) -> float:
    """Return the distance from (x, y) to the way of `thing`, in squares (larger of |dx|, |dy|).

    Ways run along an axis, so a way's bounding box is the way.
    """
    xs, ys = [p[1] for p in thing.path], [p[2] for p in thing.path]
    dx = max(min(xs) - x, 0.0, x - max(xs))
    dy = max(min(ys) - y, 0.0, y - max(ys))
    return max(dx, dy)
