"""Which events a question is answered from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from marc_core.archive import SearchHit
from marc_core.choosing import asks_beside, match, overlaps, select
from marc_core.question import EventFilter


class Line:
    """A video of events of ten seconds, whose recording stops after event `gap`."""

    def __init__(self, num: int, gap: int | None = None) -> None:
        self.hits = [hit(i) for i in range(num)]
        self.gap = gap

    def events(self, filter: EventFilter, *, limit: int) -> list[SearchHit]:
        return [h for h in self.hits if overlaps(filter, h)][:limit]

    def count(self, filter: EventFilter) -> int:
        return len(self.events(filter, limit=10**9))

    def neighbours(self, found: SearchHit) -> tuple[SearchHit | None, SearchHit | None]:
        i = found.index
        before = self.hits[i - 1] if i and i - 1 != self.gap else None
        after = self.hits[i + 1] if i + 1 < len(self.hits) and i != self.gap else None
        return before, after


def hit(index: int, cosine: float = 0.0, **more: object) -> SearchHit:
    return SearchHit(
        event_id=f"v:{index}", video_id="v", uri="v.mp4", part=0, index=index,
        start_s=10.0 * index, end_s=10.0 * index + 10, cosine=cosine, **more,
    )  # fmt: skip


def ranked(num: int, best: Sequence[int], text: int | None = None) -> list[SearchHit]:
    hits = [hit(i, 0.5 if i in best else 0.1) for i in range(num)]
    order = sorted(hits, key=lambda h: -h.cosine)
    if text is not None:
        said = hit(text, 0.1, text_score=3.0)
        order = [said, *(h for h in order if h.index != text)]
    return order


def chosen(archive: Line, found: list[SearchHit], **settings: object) -> tuple[list, list]:
    rules = {"margin": 0.15, "k": 3, "exact": False, "most": 9} | settings
    where = rules.pop("filter", EventFilter())
    selection = select(archive, found, where, **rules)
    return sorted(h.index for h in selection.events), [h.index for h in selection.matched]


def test_the_named_event_comes_with_its_neighbours():
    assert chosen(Line(8), ranked(8, [4])) == ([3, 4, 5], [4])
    assert chosen(Line(8), ranked(8, [0])) == ([0, 1], [0])


def test_two_named_events_come_before_neighbours():
    assert chosen(Line(8), ranked(8, [2, 6])) == ([1, 2, 6], [2, 6])


def test_a_neighbour_is_never_across_a_gap_nor_outside_the_filter():
    assert chosen(Line(8, gap=4), ranked(8, [4])) == ([3, 4], [4])
    cut = EventFilter(video_ids=("v",), start_s=40.0)
    assert chosen(Line(8), ranked(8, [4]), filter=cut) == ([4, 5], [4])


def test_all_events_where_none_is_named_and_they_are_few():
    assert chosen(Line(6), ranked(6, [0, 1, 3])) == ([0, 1, 2, 3, 4, 5], [])


def test_the_best_are_spread_over_time_where_they_are_many():
    events, matched = chosen(Line(200), ranked(200, range(0, 200, 2)), most=5)
    assert len(events) == 5
    assert matched == []
    assert all(i % 2 == 0 for i in events)
    assert max(events) > 150
    assert min(events) < 50


def test_a_few_alike_of_many_are_one_that_is_named():
    near = [hit(i, {4: 0.5, 9: 0.46, 20: 0.4, 30: 0.38}.get(i, 0.1)) for i in range(40)]
    found = sorted(near, key=lambda h: -h.cosine)
    assert chosen(Line(40), found) == ([3, 4, 9], [4, 9])  # within a third of the margin
    assert chosen(Line(40), found, margin=0.11) == ([3, 4, 5], [4])


def test_more_alike_than_a_search_ranks_are_spread():
    events, matched = chosen(Line(5000), ranked(5000, range(0, 5000, 50))[:64], most=9)
    assert len(events) == 9
    assert matched == []


def test_an_exact_number_is_filled_with_strangers_last():
    events, matched = chosen(Line(8), ranked(8, [4]), k=5, exact=True)
    assert len(events) == 5
    assert matched == [4]
    assert {3, 4, 5} <= set(events)
    assert chosen(Line(8), ranked(8, [1, 2, 3, 4]), k=1, exact=True) == ([1], [1])


def test_what_is_said_counts_although_it_looks_otherwise():
    assert [h.index for h in match(ranked(8, [4], text=6), 0.15)] == [6, 4]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_never_more_than_the_budget_holds(most):
    events, _ = chosen(Line(30), ranked(30, range(30)), most=most)
    assert len(events) == most


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What happens next after the sky scene?", True),
        ("Which scene comes right BEFORE the wood scene?", True),
        ("What colour is the plus in the forest scene?", False),
        ("Which comes later, the sky scene or the sea scene?", False),  # both are named
        ("How long is the text on the afternoon's board?", False),
    ],
)
def test_a_question_says_whether_it_asks_for_what_lies_beside(text, expected):
    assert asks_beside(text) is expected
