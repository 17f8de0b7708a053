"""Temporal question types inside one event: what happens, which way, how fast, how long."""

from __future__ import annotations

from marc_core.world.actors import action_shares
from marc_core.world.ask_static import pool
from marc_core.world.drafts import Draft, ask
from marc_core.world.naming import Naming
from marc_core.world.phrases import ACTION_TEXT, PROPERTIES, SECONDS, SIZE_CHANGES
from marc_core.world.states import event_at
from marc_core.world.streams import Stream
from marc_core.world.types import WorldEvent, WorldObject
from marc_core.world.words import ACTIONS, COLOURS, DIRECTIONS, SHAPES, SPEEDS

CONFUSED = (
    ("does nothing", "appears", "vanishes", "blinks"),
    ("grows", "shrinks", "changes colour", "changes shape"),
    ("moves", "hits", "passes", "hides"),
)
"""Actions that one frame cannot tell apart; many questions offer just these."""
CONFUSED_SHARE = 0.6
"""Share of the rarest action of a group that is asked about with its group as options."""
BECOMES_SHARE = 0.5
"""Share of the questions that ask what an object becomes, not what changes about it."""
NOTHING_SHARE = 0.22
"""Share of the videos asked "what changes" about an object that does not: then all four answers
come out equally often."""
LONGER_S = 1.5
"""Options of "how long" are at least so far from the true length."""


def action(naming: Naming, stream: Stream) -> list[Draft]:
    """What the main object of an event does."""
    shares = action_shares(naming.video.config)
    drafts = []
    for event in naming.video.events:
        thing = event.objects[0]
        name = naming.thing(stream, event, thing)
        if name is not None:
            text = ask(stream, "action", thing=name)
            wrong = _other_actions(stream, thing.action, shares)
            drafts.append(_draft(event, text, thing.action, wrong))
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


def _other_actions(stream: Stream, right: str, shares: dict[str, float]) -> list[str]:
    """Return three wrong actions, drawn as often as they are right elsewhere.

    So the options alone do not tell which of them is the answer: in a `CONFUSED` group all four
    are equally often right (common actions come in their group more rarely), and otherwise wrong
    ones are drawn in proportion to what is left of their share.
    """
    group = next(g for g in CONFUSED if right in g)
    lowest = {a: min(shares.get(b, 0.0) for b in g) for g in CONFUSED for a in g}
    if stream.chance(CONFUSED_SHARE * lowest[right] / shares[right]):
        return [a for a in group if a != right]
    rest = {a: shares.get(a, 0.0) - CONFUSED_SHARE * lowest[a] for a in ACTIONS if a != right}
    wrong: list[str] = []
    for _ in range(3):
        weights = list(rest.values()) if sum(rest.values()) > 0 else [1.0] * len(rest)
        wrong.append(stream.weighted(list(rest), weights))
        del rest[wrong[-1]]
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
    becomes, nothing = stream.chance(BECOMES_SHARE), stream.chance(NOTHING_SHARE)
    drafts = []
    for event in naming.video.events:
        for thing in event.objects:
            name = naming.thing(stream, event, thing)
            if name is None:
                continue
            changed = _changed(thing)
            thinned = changed == "size" and stream.chance(0.5)
            if becomes and changed != "nothing" and not thinned:
                drafts.append(_becomes(naming, stream, event, thing, name))
            if not becomes and (changed == "nothing") == nothing and not thinned:
                text = ask(stream, "change_what", thing=name)
                wrong = [p for p in PROPERTIES if p != changed]
                drafts.append(_draft(event, text, changed, wrong))
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
    """How many seconds an event lasts, rounded; options are the lengths of the world's scenes.

    Not the event in the middle of the video: long events are met there more often.
    """
    lengths = [round(s) for s in naming.video.config.scene_lengths_s]
    middle = event_at(naming.video, naming.video.duration_s / 2)
    drafts = []
    for event in naming.video.events:
        if event.index == middle.index and len(naming.video.events) > 1:
            continue
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
