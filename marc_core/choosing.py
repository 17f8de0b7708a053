"""Which events a question is answered from, by how well they fit and where they lie in time.

    ranking of a search --match--> the events that fit the question about equally well
        one or two            named: they, then their neighbours in time, k in all
        a few of many         one or two are named, the others look alike: the same with the best
        most of all           none is named: every event while they are few, else the best, spread
                              over time

Our choice in place of the paper's top k (section 3.1), found on the synthetic world: a question
about what comes before or after an event does not describe what it asks for, and three best events
miss it in 31 % of the cases; one that names no event ("how many scenes ...") needs all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from marc_core.archive import Archive, SearchHit
from marc_core.compress.share import FEW_HITS, hits_within, spread_evenly
from marc_core.question import EventFilter

POOL = 64
"""Events that a search ranks for the rules here to look at (our choice)."""
FLAT_SHARE = 1 / 3
"""A question that so many of all events fit alike names none (our choice: questions that name
none fit nearly all events, those that name one fit 1 - 15 of 105 scenes)."""
CLOSE = 1 / 3
"""Part of the margin within which a second event counts as named, too, where many are near (our
choice: the best one is right in 89 % of these questions about 10-minute videos)."""
_BESIDE = re.compile(
    r"\b(after|before|next|then|previous|previously|prior|following|follows?|precedes?|preceding)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The events of a question in no order; matched: those that it names, best first, none where
    it names no event and all count alike."""

    events: tuple[SearchHit, ...]
    matched: tuple[SearchHit, ...]


def chronological(hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Return the hits in order of time within each video (paper, section 3.1).

    Videos share no clock: they keep the order of their best hit.
    """
    order = {v: i for i, v in enumerate(dict.fromkeys(hit.video_id for hit in hits))}
    return sorted(hits, key=lambda hit: (order[hit.video_id], hit.start_s, hit.part, hit.index))


def asks_beside(text: str) -> bool:
    """Return whether a question asks for what lies beside the event that it names ("What happens
    after ...?"). Its neighbours in time then get more of the budget; in every other question, and
    in other languages than English, they get a little (our choice)."""
    return _BESIDE.search(text) is not None


def match(ranked: Sequence[SearchHit], margin: float) -> list[SearchHit]:
    """Return the events whose cosine lies within `margin` of the best one's, best first.

    The ranking's first event is always among them: where text decided, it may fit by what is said
    in it and not by how it looks.
    """
    cosines = np.array([-1.0 if hit.cosine is None else hit.cosine for hit in ranked])
    found = [ranked[i] for i in hits_within(cosines, margin)]
    said = ranked[0].text_score is not None and ranked[0].event_id not in {
        hit.event_id for hit in found
    }
    return [ranked[0], *found] if said else found


def select(
    archive: Archive,
    ranked: Sequence[SearchHit],
    filter: EventFilter,
    *,
    margin: float,
    k: int,
    exact: bool,
    most: int,
) -> Selection:
    """Return the events of a question.

    ranked: the first `POOL` events of its search, at least one. k: events where the question names
    some; with `exact` so many are given whatever the scores say, strangers last. most: events at
    most where it names none, because the budget holds a token of each.
    """
    matched = match(ranked, margin)
    if len(matched) > FEW_HITS:
        if not exact and _names_none(archive, ranked, matched, filter):
            return _all_or_best(archive, ranked, matched, filter, most)
        matched = match(ranked, CLOSE * margin)[:FEW_HITS]
    matched = matched[:k]
    events = with_neighbours(archive, matched, filter, k)
    if exact:
        events = distinct([*events, *ranked])[:k]
    return Selection(events=tuple(events), matched=tuple(matched))


def with_neighbours(
    archive: Archive, matched: Sequence[SearchHit], filter: EventFilter, k: int
) -> list[SearchHit]:
    """Return named events, then their neighbours in time, k in all."""
    return distinct([*matched, *_neighbours(archive, matched, filter)])[:k]


def named_by(
    archive: Archive, ranked: Sequence[SearchHit], filter: EventFilter, margin: float
) -> list[SearchHit]:
    """Return all events that a text fits about equally well, best first; none where it fits most
    of them alike. ranked: the first `POOL` events of its search, at least one."""
    matched = match(ranked, margin)
    flat = len(matched) > FEW_HITS and _names_none(archive, ranked, matched, filter)
    return [] if flat else matched


def _names_none(
    archive: Archive,
    ranked: Sequence[SearchHit],
    matched: Sequence[SearchHit],
    filter: EventFilter,
) -> bool:
    if len(ranked) < POOL:
        return len(matched) >= FLAT_SHARE * len(ranked)
    return len(matched) == len(ranked) or len(matched) >= FLAT_SHARE * archive.count(filter)


def _all_or_best(
    archive: Archive,
    ranked: Sequence[SearchHit],
    matched: Sequence[SearchHit],
    filter: EventFilter,
    most: int,
) -> Selection:
    everything = archive.events(filter, limit=most + 1)
    if len(everything) <= most:
        scored = {hit.event_id: hit for hit in ranked}
        events = tuple(scored.get(hit.event_id, hit) for hit in everything)
        return Selection(events=events, matched=())
    if len(matched) > most:
        by_time = sorted(matched, key=lambda hit: (hit.uri, hit.start_s, hit.event_id))
        kept = spread_evenly(list(range(len(by_time))), most)
        matched = distinct([matched[0], *(by_time[i] for i in kept)])[:most]
    return Selection(events=tuple(matched), matched=())


def _neighbours(
    archive: Archive, matched: Sequence[SearchHit], filter: EventFilter
) -> Iterable[SearchHit]:
    for hit in matched:
        for neighbour in archive.neighbours(hit):
            if neighbour is not None and overlaps(filter, neighbour):
                yield neighbour


def overlaps(filter: EventFilter, hit: SearchHit) -> bool:
    """Return whether an event lies in the filter's stretches of time; the rest of a filter holds
    for all events of a video alike."""
    start_s, end_s = hit.start_s - hit.video_start_s, hit.end_s - hit.video_start_s
    inside = (filter.start_s is None or end_s > filter.start_s) and (
        filter.end_s is None or start_s < filter.end_s
    )
    after = filter.recorded_from is None or (
        hit.recorded_to is not None and hit.recorded_to > filter.recorded_from
    )
    before = filter.recorded_to is None or (
        hit.recorded_from is not None and hit.recorded_from < filter.recorded_to
    )
    return inside and after and before


def distinct(hits: Iterable[SearchHit]) -> list[SearchHit]:
    """Return each event once, the first time that it comes."""
    first: dict[str, SearchHit] = {}
    for hit in hits:
        first.setdefault(hit.event_id, hit)
    return list(first.values())
