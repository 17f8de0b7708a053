"""Questions that a load generator asks; all have an answer in any video of the world."""

from __future__ import annotations

WORDS = ("red circle", "green square", "blue diamond", "yellow star", "white triangle")


def question(number: int) -> str:
    """Return a question."""
    return f"Which way does the {WORDS[number % len(WORDS)]} move?"
