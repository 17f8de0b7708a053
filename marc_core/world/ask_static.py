"""Static question types: answered by one frame of the right scene."""

from __future__ import annotations

from marc_core.world.drafts import Draft, ask
from marc_core.world.naming import Naming, shows
from marc_core.world.phrases import noun
from marc_core.world.streams import Stream
from marc_core.world.words import BACKGROUNDS, COLOURS, SHAPES


def pool(seen: list[str], every: list[str], right: str) -> list[str]:
    """Return wrong options: those seen in the video, filled up to three with any others."""
    near = [x for x in dict.fromkeys(seen) if x != right]
    rest = [x for x in every if x != right and x not in near]
    return near + rest[: max(0, 3 - len(near))]


def colour(naming: Naming, stream: Stream) -> list[Draft]:
    """Colour of an object that keeps it."""
    seen = [o.colour for e in naming.video.events for o in e.objects]
    drafts = []
    for event in naming.video.events:
        for thing in event.objects:
            name = naming.thing(stream, event, thing, hide="colour")
            if name is None or len(thing.colours) > 1:
                continue
            drafts.append(
                Draft(
                    text=ask(stream, "colour", thing=name),
                    right=thing.colour,
                    wrong=pool(seen, stream.shuffled(list(COLOURS)), thing.colour),
                    evidence=(event.index,),
                    named=(event.index,),
                    alternative="open",
                )
            )
    return drafts


def shape(naming: Naming, stream: Stream) -> list[Draft]:
    """Shape of an object that keeps it."""
    seen = [o.shape for e in naming.video.events for o in e.objects]
    drafts = []
    for event in naming.video.events:
        for thing in event.objects:
            name = naming.thing(stream, event, thing, hide="shape")
            if name is None or len(thing.shapes) > 1:
                continue
            drafts.append(
                Draft(
                    text=ask(stream, "shape", thing=name),
                    right=thing.shape,
                    wrong=pool(seen, stream.shuffled(SHAPES), thing.shape),
                    evidence=(event.index,),
                    named=(event.index,),
                    alternative="open",
                )
            )
    return drafts


def count(naming: Naming, stream: Stream) -> list[Draft]:
    """Number of different objects that a scene shows, those seen only for a while included."""
    drafts = []
    for event in naming.video.events:
        name = naming.scene(stream, event)
        if name is None:
            continue
        right = str(len(event.objects))
        drafts.append(
            Draft(
                text=ask(stream, "count", scene=name),
                right=right,
                wrong=[n for n in ("1", "2", "3", "4") if n != right],
                evidence=(event.index,),
                named=(event.index,),
                alternative="numerical",
                number=right,
            )
        )
    return drafts


def existence(naming: Naming, stream: Stream) -> list[Draft]:
    """Whether a scene shows an object at any time; wrong ones are seen elsewhere in the video."""
    events = naming.video.events
    drafts = []
    for event in events:
        name = naming.scene(stream, event, by_place=True)
        if name is None:
            continue
        asked, right = noun(stream.choice(event.objects)), "yes"
        if stream.chance(0.5):
            colours = [o.colour for e in events for o in e.objects]
            shapes = [o.shape for e in events for o in e.objects]
            c, s = stream.choice(colours), stream.choice(shapes)
            asked, right = f"{c} {s}", "no"
            if shows(event, colour=c, shape=s):
                continue
        drafts.append(
            Draft(
                text=ask(stream, "existence", scene=name, noun=asked),
                right=right,
                wrong=["no" if right == "yes" else "yes"],
                evidence=(event.index,),
                named=(event.index,),
                alternative="open",
            )
        )
    return drafts


def background(naming: Naming, stream: Stream) -> list[Draft]:
    """Background behind an object."""
    seen = [e.background for e in naming.video.events]
    drafts = []
    for event in naming.video.events:
        thing = stream.choice(event.objects)
        name = naming.thing(stream, event, thing, hide="background")
        if name is None:
            continue
        drafts.append(
            Draft(
                text=ask(stream, "background", thing=name),
                right=event.background,
                wrong=pool(seen, stream.shuffled(list(BACKGROUNDS)), event.background),
                evidence=(event.index,),
                named=(event.index,),
                alternative="open",
            )
        )
    return drafts
