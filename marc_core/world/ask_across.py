"""Temporal question types across events: order, neighbours, which event, when.

All of them are drawn so that one frame from the middle of the video helps little: the event in
the middle is an option as often as any other, or takes no part (`order_all`, `when`).
"""

from __future__ import annotations

from itertools import permutations

from marc_core.world.drafts import Draft, ask
from marc_core.world.naming import Naming
from marc_core.world.phrases import ACTION_BASE, ACTION_TEXT, ORDER_JOIN, PARTS, clause, noun
from marc_core.world.states import event_at
from marc_core.world.streams import Stream
from marc_core.world.types import WorldEvent
from marc_core.world.words import ALSO_SEEN

OUTER_KEPT = 0.4
"""Share of the events in the first and last quarter that are asked "when": most events beside the
middle lie there, and all four answers should come out equally often."""
PART_MARGIN = 0.03
"""An event asked "when" has its middle at least so far (of the video) from a quarter's end."""


def order(naming: Naming, stream: Stream) -> list[Draft]:
    """Which of two events comes first or later, or the order of three."""
    events = naming.video.events
    drafts = []
    pairs = [(a, b) for a in events for b in events if a.index < b.index]
    for first, last in stream.sample(pairs, 8):
        a, b = naming.scene(stream, first), naming.scene(stream, last)
        if a is None or b is None:
            continue
        key, right, wrong = stream.choice((("order_first", a, b), ("order_last", b, a)))
        one, two = stream.shuffled((a, b))
        indices = (first.index, last.index)
        text = ask(stream, key, a=one, b=two)
        drafts.append(Draft(text=text, right=right, wrong=[wrong], evidence=indices, named=indices))
    return drafts + _order_of_three(naming, stream)


def _order_of_three(naming: Naming, stream: Stream) -> list[Draft]:
    video = naming.video
    middle = event_at(video, video.duration_s / 2)
    usable = [e for e in video.events if e.index != middle.index]
    chosen = sorted(stream.sample(usable, 3), key=lambda e: e.index)
    names = [naming.scene(stream, e, by_place=True) for e in chosen]
    known = [n for n in names if n is not None]
    if len(known) < 3:
        return []
    right, *wrong = (ORDER_JOIN.join(p) for p in permutations(known))
    indices = tuple(e.index for e in chosen)
    text = ask(stream, "order_all")
    return [Draft(text=text, right=right, wrong=wrong, evidence=indices, named=indices)]


def after(naming: Naming, stream: Stream) -> list[Draft]:
    """Which scene, or what, comes right after an event."""
    return _neighbours(naming, stream, "after", 1)


def before(naming: Naming, stream: Stream) -> list[Draft]:
    """Which scene, or what, comes right before an event."""
    return _neighbours(naming, stream, "before", -1)


def _neighbours(naming: Naming, stream: Stream, key: str, step: int) -> list[Draft]:
    events = naming.video.events
    if len(events) < 3:
        return []
    drafts = []
    for anchor in events:
        index = anchor.index + step
        name = naming.scene(stream, anchor)
        if name is None or not 0 <= index < len(events):
            continue
        target = events[index]
        others = [e for e in events if e.index not in (anchor.index, index)]
        by_scene = stream.chance(0.5)
        show = _scene_name if by_scene else _happening
        right = show(naming, target)
        wrong = [show(naming, e) for e in others]
        text = ask(stream, f"{key}_scene" if by_scene else f"{key}_event", scene=name)
        drafts.append(
            Draft(
                text=text,
                right=right,
                wrong=[w for w in dict.fromkeys(wrong) if w != right],
                evidence=tuple(sorted((anchor.index, index))),
                named=(anchor.index,),
                alternative="open" if by_scene else "multiple_choice",
            )
        )
    return [d for d in drafts if d.wrong]


def _scene_name(naming: Naming, event: WorldEvent) -> str:
    return event.background


def _happening(naming: Naming, event: WorldEvent) -> str:
    return clause(event, event.objects[0])


def which_event(naming: Naming, stream: Stream) -> list[Draft]:
    """In which scene something happens that happens once in the video, or to which object."""
    events = naming.video.events
    doing: dict[str, list[tuple[int, int]]] = {}
    for event in events:
        for thing in event.objects:
            doing.setdefault(thing.action, []).append((event.index, thing.index))
    mains = [noun(e.objects[0]) for e in events]
    places = [e.background for e in events]
    drafts = []
    for act, who in doing.items():
        unclear = any(other in doing for other in ALSO_SEEN.get(act, ()))
        once = len({e for e, _ in who}) == 1 and len(events) > 1
        if act not in ACTION_BASE or unclear or not once:
            continue
        event = events[who[0][0]]
        evidence = (event.index,)
        if places.count(event.background) == 1:
            text = ask(stream, "which_scene", act=ACTION_BASE[act])
            wrong = [p for p in dict.fromkeys(places) if p != event.background]
            drafts.append(
                Draft(
                    text=text,
                    right=event.background,
                    wrong=wrong,
                    evidence=evidence,
                    named=(),
                    alternative="open",
                )
            )
        right = noun(event.objects[who[0][1]])
        if len(who) == 1 and right == mains[event.index] and mains.count(right) == 1:
            text = ask(stream, "which_object", acts=ACTION_TEXT[act].removeprefix("only "))
            wrong = [m for m in dict.fromkeys(mains) if m != right]
            drafts.append(Draft(text=text, right=right, wrong=wrong, evidence=evidence, named=()))
    return drafts


def when(naming: Naming, stream: Stream) -> list[Draft]:
    """In which quarter of the video an event lies; never the one in the middle of the video."""
    video = naming.video
    middle = event_at(video, video.duration_s / 2)
    drafts = []
    for event in video.events:
        share = (event.start_s + event.end_s) / 2 / video.duration_s * len(PARTS)
        margin = PART_MARGIN * len(PARTS)
        name = naming.scene(stream, event)
        if name is None or event.index == middle.index or not margin < share % 1 < 1 - margin:
            continue
        right = PARTS[int(share)]
        if right in (PARTS[0], PARTS[-1]) and not stream.chance(OUTER_KEPT):
            continue
        drafts.append(
            Draft(
                text=ask(stream, "when", scene=name),
                right=right,
                wrong=[p for p in PARTS if p != right],
                evidence=(event.index,),
                named=(event.index,),
            )
        )
    return drafts
