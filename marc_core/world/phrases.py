"""Every sentence pattern of the world, and the closed vocabulary that follows from them.

All text is made from these patterns and the names in `words`; a test tokenises thousands of
sentences and finds no other word. Case matters: "A" is an option's letter, "a" an article.
"""

from __future__ import annotations

import re
from typing import Final

from marc_core.world.types import WorldEvent, WorldObject
from marc_core.world.words import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SPEEDS

ACTION_TEXT: Final[dict[str, str]] = {
    "does nothing": "does nothing",
    "moves": "only moves",
    "appears": "appears",
    "vanishes": "vanishes",
    "blinks": "blinks",
    "grows": "grows",
    "shrinks": "shrinks",
    "changes colour": "changes colour",
    "changes shape": "changes shape",
    "hits": "hits another object",
    "passes": "passes another object",
    "hides": "hides behind another object",
}
"""Actions as options of a question, without saying with whom. No two fit one object: who hits
another object does more than "only moves", who blinks or grows does not "do nothing"."""

ACTION_BASE: Final[dict[str, str]] = {
    "moves": "move",
    "appears": "appear",
    "vanishes": "vanish",
    "blinks": "blink",
    "grows": "grow",
    "shrinks": "shrink",
    "changes colour": "change colour",
    "changes shape": "change shape",
    "hits": "hit another object",
    "passes": "pass another object",
    "hides": "hide behind another object",
}
"""Actions after "does an object"."""

ASK: Final[dict[str, tuple[str, ...]]] = {
    "colour": ("What colour is {thing}?", "Which colour does {thing} have?"),
    "shape": ("What shape is {thing}?", "Which shape does {thing} have?"),
    "count": ("How many objects are in {scene}?", "How many objects does {scene} show?"),
    "existence": ("Is there a {noun} in {scene}?", "Does {scene} show a {noun}?"),
    "background": ("Where is {thing}?", "Which scene shows {thing}?"),
    "action": ("What does {thing} do?", "What happens to {thing}?"),
    "direction": ("Which way does {thing} go?", "In which direction does {thing} move?"),
    "speed": ("How fast does {thing} move?", "At which speed does {thing} move?"),
    "change_what": ("What changes about {thing}?", "Which property of {thing} changes?"),
    "change_colour": ("What colour does {thing} become?", "Which colour does {thing} turn to?"),
    "change_shape": ("What shape does {thing} become?", "Which shape does {thing} turn to?"),
    "change_size": ("Does {thing} grow or shrink?", "How does the size of {thing} change?"),
    "order_first": ("Which comes first, {a} or {b}?", "What is seen first, {a} or {b}?"),
    "order_last": ("Which comes later, {a} or {b}?", "What is seen later, {a} or {b}?"),
    "order_all": ("In which order do these scenes come?", "What is the order of these scenes?"),
    "after_scene": ("Which scene comes right after {scene}?", "What follows {scene}?"),
    "after_event": ("What happens right after {scene}?", "What happens next after {scene}?"),
    "before_scene": ("Which scene comes right before {scene}?", "What precedes {scene}?"),
    "before_event": ("What happens right before {scene}?", "What happened just before {scene}?"),
    "which_scene": ("In which scene does an object {act}?", "Where does something {act}?"),
    "which_object": ("Which object {acts}?", "What is the object that {acts}?"),
    "how_long": ("How long does {scene} last?", "How many seconds does {scene} last?"),
    "when": ("When does {scene} come?", "In which part of the video is {scene}?"),
}

CAPTION: Final[dict[str, str]] = {
    "does nothing": "{thing} does nothing",
    "moves": "{thing} moves {direction} {speed}",
    "appears": "{thing} appears",
    "vanishes": "{thing} vanishes",
    "blinks": "{thing} blinks",
    "grows": "{thing} grows",
    "shrinks": "{thing} shrinks",
    "changes colour": "{thing} changes colour to {colour}",
    "changes shape": "{thing} changes shape to {shape}",
    "hits": "{thing} hits {other}",
    "passes": "{thing} passes {other}",
    "hides": "{thing} hides behind {other}",
}
"""What an object does, in full; used in captions."""

QUERIES: Final = (
    "{thing}",
    "a {noun}",
    "{place}",
    "{thing} in {place}",
    "a {noun} in {place}",
    "show {thing}",
    "find {place} with {thing}",
    "{clause}",
    "{clause} in {place}",
    "Where is {thing}?",
    "What does {thing} do?",
    "What happens in {place}?",
    "When does {place} come?",
)
"""Query-like paraphrases of one event."""

PARTS: Final = ("first quarter", "second quarter", "third quarter", "last quarter")
PROPERTIES: Final = ("colour", "size", "shape", "nothing")
SIZE_CHANGES: Final = ("it grows", "it shrinks")
SECONDS: Final = "{n} seconds"
CAPTION_PATTERN: Final = "In {place}, {clauses}."
ORDER_JOIN: Final = ", then "
LETTERS: Final = ("A", "B", "C", "D")
_FRAMES: Final = (
    "the object", "in the", "the scene with", "yes no", "Options:", "and", "a an", CAPTION_PATTERN,
    ORDER_JOIN, SECONDS, ". , ? : ( )",
)  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9\s]")
_LARGEST_NUMBER = 60


def words_of(text: str) -> list[str]:
    """Split text into words, numbers and punctuation marks, as a word-level tokenizer should."""
    return _TOKEN.findall(text)


def vocabulary() -> tuple[str, ...]:
    """Return every word that questions, options, answers, captions and queries use, sorted.

    Holds the option letters, numbers 0 - 60 and punctuation as well; no special tokens.
    """
    patterns = [*_FRAMES, *ACTION_TEXT.values(), *ACTION_BASE.values(), *CAPTION.values()]
    patterns += [*QUERIES, *PARTS, *PROPERTIES, *SIZE_CHANGES, *LETTERS]
    patterns += [pattern for group in ASK.values() for pattern in group]
    names = [*COLOURS, *SHAPES, *BACKGROUNDS, *DIRECTIONS, *SPEEDS]
    numbers = [str(n) for n in range(_LARGEST_NUMBER + 1)]
    plain = [re.sub(r"\{\w+\}", " ", pattern) for pattern in patterns]
    found = {word for text in [*plain, *names, *numbers] for word in words_of(text)}
    return tuple(sorted(found))


def noun(thing: WorldObject) -> str:
    """Return "red circle": the object as it is at its event's start."""
    return f"{thing.colour} {thing.shape}"


def place(event: WorldEvent) -> str:
    """Return "the forest scene"."""
    return f"the {event.background} scene"


def clause(event: WorldEvent, thing: WorldObject) -> str:
    """Return what one object does: "the red circle moves left slowly"."""
    other = event.objects[thing.partner] if thing.partner is not None else thing
    return CAPTION[thing.action].format(
        thing=f"the {noun(thing)}",
        other=f"the {noun(other)}",
        direction=thing.direction,
        speed=thing.speed,
        colour=thing.colours[-1][1],
        shape=thing.shapes[-1][1],
    )
