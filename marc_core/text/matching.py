"""Which lines of an event's text hold words of a search, and where in them.

Words are compared as the full-text index compares them (LanceDB's analyser: split where there is no
letter or digit, lower case, without accents, without English stop words, English stems), so that
what is shown is why the event was found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from marc_core.archive import TextLine

MOST_LINES = 8
"""Lines of an event that are shown, those with most words of the search first (our choice)."""
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)
"""Words that the index leaves out."""


def marked(lines: Iterable[TextLine], query: str) -> list[TextLine]:
    """Return the lines that hold words of the query, in order of time, with where they are.

    A query in double quotes is a phrase (`phrase_of`): lines that hold its words one after the
    other. Of more than `MOST_LINES` lines, those with most different words of the query.
    """
    wanted = [stem for stem, _, _ in _stems(query)]
    phrase = phrase_of(query) is not None
    found = []
    for line in lines:
        stems = _stems(line.text)
        hits = _runs(stems, wanted) if phrase else [s for s in stems if s[0] in wanted]
        if hits:
            places = tuple((start, end) for _, start, end in hits)
            found.append((len({stem for stem, *_ in hits}), replace(line, words=places)))
    best = sorted(found, key=lambda item: -item[0])[:MOST_LINES]
    return sorted((line for _, line in best), key=lambda line: (line.start_s, line.end_s))


def phrase_of(query: str) -> str | None:
    """Return what stands between the double quotes that enclose a whole query, if they do."""
    query = query.strip()
    inner = query[1:-1]
    quoted = len(query) > 2 and query[0] == query[-1] == '"' and '"' not in inner
    return inner if quoted else None


def _runs(
    stems: Sequence[tuple[str, int, int]], wanted: Sequence[str]
) -> list[tuple[str, int, int]]:
    """Return the words of each place where `wanted` stands as a whole."""
    names, count = [stem for stem, _, _ in stems], len(wanted)
    starts = [i for i in range(len(names)) if names[i : i + count] == list(wanted)]
    return [stems[i + j] for i in starts for j in range(count)] if count else []


def _stems(text: str) -> list[tuple[str, int, int]]:
    """Return (stem, start, end) of the words of a text that the index holds."""
    words = ((match[0], match.start(), match.end()) for match in _WORD.finditer(text))
    stems = ((_stem(word), start, end) for word, start, end in words)
    return [(stem, start, end) for stem, start, end in stems if stem]


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return "" if plain in _STOP_WORDS else str(_stemmer().stemWord(plain))


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")
