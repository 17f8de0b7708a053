"""Which events a multiple-choice question is answered from, where its options name them.

    "In which scene does something blink?"     names no event: all of them would share the budget
      forest | cave | sea | road               each names one or two: these share it alone

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

from marc_core.choosing import POOL, Selection, distinct, named_by
from marc_core.models.prompt import choices_of
from marc_core.prepared import timed
from marc_core.question import SearchQuery

if TYPE_CHECKING:
    from marc_core.archive import Archive, SearchHit
    from marc_core.embed import DualEncoder
    from marc_core.question import Question


@dataclass(frozen=True, kw_only=True, slots=True)
class Unnamed:
    """A question with options whose words name no event. selection: all events, or the best.

    ranked: the first events of its search. most: events at most.
    """

    question: Question
    selection: Selection
    ranked: Sequence[SearchHit]
    most: int


def narrow(
    archive: Archive,
    encoder: DualEncoder,
    asked: Sequence[Unnamed],
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
    return [
        by_options(archive, a, [next(found) if text else [] for text in own], margin)
        for a, own in zip(asked, options, strict=True)
    ]


def by_options(
    archive: Archive, asked: Unnamed, rankings: Sequence[Sequence[SearchHit]], margin: float
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
