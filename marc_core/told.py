"""Text of the retrieved events in a student's prompt, within a budget of tokens.

lines of all events --once each, those with words of the question first--> as many as fit
                                                    --in order of time--> one block of lines
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from marc_core.text.matching import marked
from marc_core.times import clock

if TYPE_CHECKING:
    from marc_core.archive import SearchHit, TextLine

HEAD = "Said or written in the video:"
"""First line of the block (our choice)."""


def said_block(
    hits: Sequence[SearchHit],
    lines: Mapping[str, Sequence[TextLine]],
    question: str,
    budget_tokens: int,
    count: Callable[[str], int],
) -> str:
    """Return the block, empty where no line fits.

    hits: in the order in which they are shown. lines: of their texts, by event id. count: tokens of
    a text, as the student's tokenizer has them. A line is taken whole, or not at all; the first one
    is cut to the words that fit where it alone is too long.
    """
    shown = _once(hits, lines)
    wanted = {id(line) for _, line in _with_words(shown, question)}
    ranked = sorted(range(len(shown)), key=lambda i: (id(shown[i][1]) not in wanted, i))
    taken: list[int] = []
    for i in ranked:
        block = _block([_written(*shown[j]) for j in sorted([*taken, i])])
        if count(block) <= budget_tokens:
            taken.append(i)
        elif not taken:
            return _cut(_written(*shown[i]), budget_tokens, count)
    return _block([_written(*shown[i]) for i in sorted(taken)]) if taken else ""


def _once(
    hits: Sequence[SearchHit], lines: Mapping[str, Sequence[TextLine]]
) -> list[tuple[float, TextLine]]:
    """Return (its video's start, line) of all lines; one that spans two events counts once."""
    found: dict[tuple[str, float, str, str], tuple[float, TextLine]] = {}
    for hit in hits:
        for line in lines.get(hit.event_id, ()):
            key = (hit.video_id, line.start_s, line.kind, line.text)
            found.setdefault(key, (hit.video_start_s, line))
    return list(found.values())


def _with_words(
    shown: Sequence[tuple[float, TextLine]], question: str
) -> list[tuple[float, TextLine]]:
    return [(start_s, line) for start_s, line in shown if marked([line], question)]


def _written(video_start_s: float, line: TextLine) -> str:
    """Return a line as the student reads it: when, how, what."""
    return f"{clock(line.start_s - video_start_s)} {line.kind}: {' '.join(line.text.split())}"


def _block(written: Sequence[str]) -> str:
    return "\n".join([HEAD, *written])


def _cut(written: str, budget_tokens: int, count: Callable[[str], int]) -> str:
    """Return the block of one line with as many of its words as fit, empty where none does."""
    words, low = written.split(" "), 2  # the first two are when and how
    high = len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count(_block([" ".join(words[:middle])])) <= budget_tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    return _block([" ".join(words[:low])]) if low > 2 else ""
