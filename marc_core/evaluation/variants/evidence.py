"""Which events hold the answer, and how well a retrieval found them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from marc_core.evaluation.datasets.sample import NAMES_ONE_EVENT, Sample

TOP = (1, 3)
"""Ranks k at which retrieval is scored: is there evidence in the top k?"""


def evidence_events(sample: Sample, spans: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Return the events that hold more than half of a stretch of evidence, or lie more than half
    inside one: the same cut as the truth gives the true events, another cut the nearest."""
    found = []
    for index, (start_s, end_s) in enumerate(spans):
        for first_s, last_s in sample.evidence:
            overlap_s = min(end_s, last_s) - max(start_s, first_s)
            if overlap_s > 0.5 * min(end_s - start_s, last_s - first_s):
                found.append(index)
                break
    return tuple(found)


def evidence_rank(
    sample: Sample, ranked: Sequence[int], spans: Sequence[tuple[float, float]]
) -> int:
    """Return the best rank (from 1) of an event with the evidence, for questions that name one
    event; 0 for other questions, -1 where no event holds it."""
    if NAMES_ONE_EVENT not in sample.tags or not ranked:
        return 0
    wanted = set(evidence_events(sample, spans))
    ranks = [rank for rank, event in enumerate(ranked, start=1) if event in wanted]
    return ranks[0] if ranks else -1


def recall_by_chance(
    sample: Sample, ranked: Sequence[int], spans: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Return {"1": p, "3": p}: chance that a random order has evidence in its top 1 and top 3.

    1 - C(E - n, k) / C(E, k) for n of E events with evidence; {} where nothing is ranked.
    """
    if evidence_rank(sample, ranked, spans) == 0:
        return {}
    num, wanted = len(spans), len(evidence_events(sample, spans))
    return {
        str(k): 1 - math.comb(num - wanted, min(k, num)) / math.comb(num, min(k, num)) for k in TOP
    }


def evidence_shown(
    sample: Sample, events: Sequence[int], spans: Sequence[tuple[float, float]]
) -> float:
    """Return the share of the events with evidence that are among `events`, -1 without any."""
    wanted = evidence_events(sample, spans)
    return sum(e in events for e in wanted) / len(wanted) if wanted else -1.0
