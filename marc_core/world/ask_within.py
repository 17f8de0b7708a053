"""Temporal question types inside one event: what happens, which way, how fast, how long."""

from __future__ import annotations

from marc_core.world.ask_static import pool
from marc_core.world.drafts import Draft, ask
from marc_core.world.naming import Naming
from marc_core.world.phrases import ACTION_TEXT, PROPERTIES, SECONDS, SIZE_CHANGES
from marc_core.world.streams import Stream
from marc_core.world.types import WorldEvent, WorldObject
from marc_core.world.words import ACTION_WEIGHTS, ACTIONS, COLOURS, DIRECTIONS, SHAPES, SPEEDS

CONFUSED = (
    ("stays still", "appears", "vanishes", "blinks"),
    ("grows", "shrinks", "changes colour", "changes shape"),
    ("moves", "hits", "passes", "hides"),
)
"""Actions that one frame cannot tell apart; half of the questions offer just these."""
NOTHING_SHARE = 0.2
"""Share of "nothing" among the answers to "what changes"."""
LONGER_S = 1.5
"""Options of "how long" are at least so far from the true length."""


def action(naming: Naming, stream: Stream) -> list[Draft]:
    """What the main object of an event does."""
    drafts = []
    for event in naming.video.events:
        thing = event.objects[0]
        name = naming.thing(stream, event, thing)
        if name is not None:
            text = ask(stream, "action", thing=name)
            drafts.append(_draft(event, text, thing.action, _other_actions(stream, thing.action)))
    return [
        Draft(
            text=d.text,
            right=ACTION_TEXT[d.right],
            wrong=[ACTION_TEXT[a] for a in d.wrong],
            evidence=d.evidence,
            named=d.named,
        )
        for d in drafts
    ]


def _other_actions(stream: Stream, right: str) -> list[str]:
    """Return three wrong actions, drawn as often as they are right elsewhere.

    So the options alone do not tell which of them is the answer.
    """
    if stream.chance(0.5):
        return [a for group in CONFUSED if right in group for a in group if a != right]
    left = [a for a in ACTIONS if a != right]
    wrong: list[str] = []
    for _ in range(3):
        wrong.append(stream.weighted(left, [ACTION_WEIGHTS[a] for a in left]))
        left.remove(wrong[-1])
    return wrong


def _draft(event: WorldEvent, text: str, right: str, wrong: list[str]) -> Draft:
    return Draft(text=text, right=right, wrong=wrong, evidence=(event.index,), named=(event.index,))


def direction(naming: Naming, stream: Stream) -> list[Draft]:
    """Which way an object goes (moves, passes another one or goes to hide)."""
    drafts = []
    for event in naming.video.events:
        movers = [o for o in event.objects if o.direction is not None]
        if not movers:
            continue
        thing = stream.choice(movers)
        name = naming.thing(stream, event, thing)
        if name is None or thing.direction is None:
            continue
        drafts.append(
            Draft(
                text=ask(stream, "direction", thing=name),
                right=thing.direction,
                wrong=[d for d in DIRECTIONS if d != thing.direction],
                evidence=(event.index,),
                named=(event.index,),
                alternative="open",
            )
        )
    return drafts


def speed(naming: Naming, stream: Stream) -> list[Draft]:
    """Whether an object moves slowly or fast."""
    drafts = []
    for event in naming.video.events:
        thing = event.objects[0]
        name = naming.thing(stream, event, thing)
        if name is None or thing.speed is None:
            continue
        text = ask(stream, "speed", thing=name)
        drafts.append(_draft(event, text, thing.speed, [s for s in SPEEDS if s != thing.speed]))
    return drafts


def attribute_change(naming: Naming, stream: Stream) -> list[Draft]:
    """What changes about an object, or what it becomes."""
    nothing = stream.chance(NOTHING_SHARE)
    drafts = []
    for event in naming.video.events:
        for thing in event.objects:
            name = naming.thing(stream, event, thing)
            if name is None:
                continue
            changed = _changed(thing)
            if (changed == "nothing") == nothing and not (changed == "size" and stream.chance(0.5)):
                text = ask(stream, "change_what", thing=name)
                wrong = [p for p in PROPERTIES if p != changed]
                drafts.append(_draft(event, text, changed, wrong))
            if changed != "nothing" and not nothing:
                drafts.append(_becomes(naming, stream, event, thing, name))
    return drafts


def _changed(thing: WorldObject) -> str:
    """Return the property of an object that changes: one of PROPERTIES."""
    if len(thing.colours) > 1:
        return "colour"
    if len(thing.shapes) > 1:
        return "shape"
    return "size" if thing.action in ("grows", "shrinks") else "nothing"


def _becomes(
    naming: Naming, stream: Stream, event: WorldEvent, thing: WorldObject, name: str
) -> Draft:
    """Return the question what an object becomes; its first colour or shape is no option."""
    objects = [o for e in naming.video.events for o in e.objects]
    if len(thing.colours) > 1:
        seen = [c for o in objects for _, c in o.colours if c != thing.colour]
        every = [c for c in stream.shuffled(list(COLOURS)) if c != thing.colour]
        right = thing.colours[-1][1]
        text = ask(stream, "change_colour", thing=name)
        return _draft(event, text, right, pool(seen, every, right))
    if len(thing.shapes) > 1:
        seen = [s for o in objects for _, s in o.shapes if s != thing.shape]
        every = [s for s in stream.shuffled(SHAPES) if s != thing.shape]
        right = thing.shapes[-1][1]
        text = ask(stream, "change_shape", thing=name)
        return _draft(event, text, right, pool(seen, every, right))
    right = f"it {thing.action}"
    text = ask(stream, "change_size", thing=name)
    return _draft(event, text, right, [c for c in SIZE_CHANGES if c != right])


def how_long(naming: Naming, stream: Stream) -> list[Draft]:
    """How many seconds an event lasts, rounded; options are the lengths of the world's scenes."""
    lengths = [round(s) for s in naming.video.config.scene_lengths_s]
    drafts = []
    for event in naming.video.events:
        name = naming.scene(stream, event)
        wrong = [n for n in lengths if abs(n - event.duration_s) >= LONGER_S]
        if name is None or not wrong:
            continue
        right = round(event.duration_s)
        drafts.append(
            Draft(
                text=ask(stream, "how_long", scene=name),
                right=SECONDS.format(n=right),
                wrong=[SECONDS.format(n=n) for n in dict.fromkeys(wrong)],
                evidence=(event.index,),
                named=(event.index,),
                alternative="numerical",
                number=str(right),
            )
        )
    return drafts
