"""Where the evidence of a question is, and how a ranking is scored: cases by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.variants.evidence import (
    evidence_events,
    evidence_rank,
    evidence_shown,
    recall_by_chance,
)

SPANS = ((0.0, 4.0), (4.0, 8.0), (8.0, 12.0), (12.0, 16.0))
Make = Callable[..., Sample]


@pytest.mark.parametrize(
    ("evidence", "events"),
    [
        (((8.0, 12.0),), (2,)),  # the truth's own event
        (((7.5, 11.0),), (2,)),  # cut elsewhere: the nearest
        (((8.5, 9.0),), (2,)),  # a moment inside an event
        (((0.0, 16.0),), (0, 1, 2, 3)),  # all lie inside the evidence
        (((0.0, 4.0), (12.0, 16.0)), (0, 3)),
        (((2.0, 6.0),), ()),  # half and half: neither holds more than half
        ((), ()),
    ],
)
def test_evidence_is_where_more_than_half_of_it_is(
    make_sample: Make, evidence: tuple, events: tuple[int, ...]
) -> None:
    assert evidence_events(make_sample(evidence=evidence), SPANS) == events


@pytest.mark.parametrize(
    ("ranked", "rank"), [((2, 0, 1), 1), ((0, 2, 1), 2), ((3, 1, 0, 2), 4), ((0, 1), -1), ((), 0)]
)
def test_rank_is_that_of_the_first_event_with_evidence(
    make_sample: Make, ranked: tuple[int, ...], rank: int
) -> None:
    assert evidence_rank(make_sample(), ranked, SPANS) == rank


def test_only_questions_that_name_one_event_are_ranked(make_sample: Make) -> None:
    asked = make_sample(tags=("static",))
    assert evidence_rank(asked, (2, 0), SPANS) == 0
    assert recall_by_chance(asked, (2, 0), SPANS) == {}


def test_the_best_of_several_events_with_evidence_counts(make_sample: Make) -> None:
    asked = make_sample(evidence=((0.0, 4.0), (12.0, 16.0)))
    assert evidence_rank(asked, (1, 3, 0, 2), SPANS) == 2


def test_chance_is_one_less_the_share_of_draws_without_evidence(make_sample: Make) -> None:
    assert recall_by_chance(make_sample(), (2, 0, 1), SPANS) == {"1": 0.25, "3": 0.75}
    two = make_sample(evidence=((0.0, 4.0), (12.0, 16.0)))
    # 1 - C(2, 1) / C(4, 1) and 1 - C(2, 3) / C(4, 3)
    assert recall_by_chance(two, (2, 0, 1), SPANS) == {"1": 0.5, "3": 1.0}


def test_shown_is_a_share_of_the_events_with_evidence(make_sample: Make) -> None:
    two = make_sample(evidence=((0.0, 4.0), (12.0, 16.0)))
    assert evidence_shown(two, (0, 1), SPANS) == 0.5
    assert evidence_shown(two, (0, 1, 3), SPANS) == 1.0
    assert evidence_shown(make_sample(evidence=()), (0, 1), SPANS) == -1.0
