"""Captions and query-like paraphrases of one event, for contrastive and caption training."""

from __future__ import annotations

from marc_core.world.phrases import CAPTION_PATTERN, QUERIES, clause, noun, place
from marc_core.world.streams import Purpose, Stream
from marc_core.world.types import WorldEvent


def describe_event(event: WorldEvent) -> str:
    """Return one sentence that says all of an event.

    "In the forest scene, the red circle moves left slowly, the blue ring does nothing."
    """
    clauses = ", ".join(clause(event, thing) for thing in event.objects)
    return CAPTION_PATTERN.format(place=place(event), clauses=clauses)


def paraphrase_event(event: WorldEvent, *, seed: int) -> str:
    """Return a random query that fits the event, deterministic by (event, seed).

    It names the place, an object, what the object does, or several of them, so it may fit other
    events too, as real queries do.
    """
    stream = Stream(Purpose.PARAPHRASE, seed, event.index)
    thing = stream.choice(event.objects)
    return stream.choice(QUERIES).format(
        thing=f"the {noun(thing)}",
        noun=noun(thing),
        place=place(event),
        clause=clause(event, thing),
    )
