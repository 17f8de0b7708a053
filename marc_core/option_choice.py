"""Which events a multiple-choice question is answered from, where its options name them.

    "In which scene does something blink?"     names no event: all of them would share the budget
      forest | cave | sea | road               each names one or two: these share it alone
    "Which comes first, the sea or the cave?"  one vector of the whole finds one of the two
      the sea | the cave                       the question quotes both: each is found by itself

An option is judged as a question is (`marc_core.choosing`): what fits a few events names them, what
fits most of them alike ("yes", "2") names none. The question's own choice stands where one option
names none, so that the right answer is not left out because its option could not be found; where
all options name the same events, which then say nothing about them; and where they name more events
than the budget has tokens for. (Our choice; docs/compression.md.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from marc_core.choosing import POOL, Selection, distinct, named_by, with_neighbours
from marc_core.models.prompt import choices_of
from marc_core.prepared import timed
from marc_core.question import SearchQuery
from marc_core.scoring.parse import normalise

if TYPE_CHECKING:
    from marc_core.archive import Archive, SearchHit
    from marc_core.embed import DualEncoder
    from marc_core.question import Question


@dataclass(frozen=True, kw_only=True, slots=True)
class WithOptions:
    """A question whose options may tell which events it is about.

    selection: what the question itself chose. ranked: the first events of its search. k: events
    where some are named. most: where none is.
    """

    question: Question
    selection: Selection
    ranked: Sequence[SearchHit]
    k: int
    most: int


def asks_options(question: Question, selection: Selection) -> bool:
    """Return whether a question's options are to be looked up: it names no event, or quotes
    them and leaves the number of events to the rules."""
    if not question.options:
        return False
    return not selection.matched or (question.k is None and quotes(question))


def quotes(question: Question) -> bool:
    """Return whether a question says each of its options, two or more, word for word."""
    said = normalise(question.text)
    options = [normalise(text) for text in choices_of(question.options)]
    return len(options) > 1 and all(text and f" {text} " in f" {said} " for text in options)


def narrow(
    archive: Archive,
    encoder: DualEncoder,
    asked: Sequence[WithOptions],
    margin: float,
    timings: dict[str, float],
) -> list[Selection]:
    """Return each question's selection, narrowed to what its options name where all of them do.

    margin: within which cosines of `encoder` fit alike. All options are embedded in one call and
    searched in another; their seconds are added to `timings`.
    """
    options = [choices_of(a.question.options) for a in asked]
    texts = list(dict.fromkeys(text for own in options for text in own if text))
    if not texts:
        return [a.selection for a in asked]
    with timed(timings, "embed"):
        vector_of = dict(zip(texts, encoder.encode_texts(texts), strict=True))
    pairs = [(a, text) for a, own in zip(asked, options, strict=True) for text in own if text]
    queries = [
        SearchQuery(text=t, filter=a.question.filter, limit=POOL, paged=False) for a, t in pairs
    ]
    with timed(timings, "retrieve"):
        vectors_QD = np.stack([vector_of[text] for _, text in pairs])
        found = iter(archive.search(queries, vectors_QD))
    selections = []
    for a, own in zip(asked, options, strict=True):
        rankings = [next(found) if text else [] for text in own]
        if quotes(a.question):
            selections.append(by_quoted(archive, a, rankings))
        else:
            selections.append(by_options(archive, a, rankings, margin))
    return selections


def by_quoted(
    archive: Archive, asked: WithOptions, rankings: Sequence[Sequence[SearchHit]]
) -> Selection:
    """Return the event that each option fits best, and neighbours in time, k in all; the question's
    own selection where nothing was found or there are more than k.

    rankings: what a search for each option found, best first.
    """
    best = [ranked[0] for ranked in rankings if ranked]
    scored = {hit.event_id: hit for hit in (*asked.ranked, *asked.selection.events)}
    matched = distinct(scored.get(hit.event_id, hit) for hit in best)
    if not matched or len(matched) > asked.k:
        return asked.selection
    events = with_neighbours(archive, matched, asked.question.filter, asked.k)
    return Selection(events=tuple(events), matched=tuple(matched))


def by_options(
    archive: Archive, asked: WithOptions, rankings: Sequence[Sequence[SearchHit]], margin: float
) -> Selection:
    """Return the events that the options name, else the question's own.

    rankings: what a search for each option found, best first. The events count alike, and keep the
    question's scores where its search ranked them.
    """
    named = [
        named_by(archive, ranked, asked.question.filter, margin) if ranked else []
        for ranked in rankings
    ]
    if not all(named) or len({frozenset(h.event_id for h in own) for own in named}) < 2:
        return asked.selection
    scored = {hit.event_id: hit for hit in (*asked.ranked, *asked.selection.events)}
    events = [scored.get(hit.event_id, hit) for hit in distinct(chain(*named))]
    if len(events) > asked.most:
        return asked.selection
    return Selection(events=tuple(events), matched=())
