"""Which events a question that names none is answered from, where its options name them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from marc_core.archive import SearchHit
from marc_core.choosing import Selection
from marc_core.option_choice import (
    WithOptions,
    asks_options,
    by_options,
    by_quoted,
    narrow,
    quotes,
)
from marc_core.question import EventFilter, Question
from tests.marc_core.test_choosing import Line, hit

MARGIN = 0.15


def scores(*cosines: float) -> list[SearchHit]:
    """The ranking of an option from its cosine with each event."""
    return sorted((hit(i, c) for i, c in enumerate(cosines)), key=lambda h: -h.cosine)


def asked(num: int, *, options: tuple[str, ...] = ("a", "b"), most: int = 9) -> WithOptions:
    ranked = scores(*([0.35] * num))
    everything = Selection(events=tuple(ranked), matched=())
    question = Question(text="Where does something blink?", options=options)
    return WithOptions(question=question, selection=everything, ranked=ranked, k=3, most=most)


def indices(selection: Selection) -> list[int]:
    assert selection.matched == ()
    return sorted(h.index for h in selection.events)


SEA, FOREST = (0.2, 0.6, 0.2, 0.3, 0.1, 0.2), (0.3, 0.2, 0.2, 0.2, 0.7, 0.6)
ALIKE = (0.41, 0.43, 0.4, 0.38, 0.44, 0.4)


def test_only_what_the_options_name_is_read():
    found = by_options(Line(6), asked(6), [scores(*SEA), scores(*FOREST)], MARGIN)
    assert indices(found) == [1, 4, 5]
    assert all(h.cosine == 0.35 for h in found.events)  # how well the question fits is kept


def test_an_event_that_two_options_name_is_read_once():
    found = by_options(Line(6), asked(6), [scores(*r) for r in (SEA, FOREST, SEA)], MARGIN)
    assert indices(found) == [1, 4, 5]


@pytest.mark.parametrize(
    "rankings", [[ALIKE, ALIKE], [SEA, ALIKE], [ALIKE, SEA], [SEA, SEA, SEA], []]
)
def test_all_are_read_where_the_options_tell_no_events_apart(rankings: Any):
    found = by_options(Line(6), asked(6), [scores(*r) for r in rankings], MARGIN)
    assert indices(found) == [0, 1, 2, 3, 4, 5]


def test_all_are_read_where_the_options_name_more_than_the_budget_holds():
    rankings = [scores(*SEA), scores(*FOREST)]
    assert indices(by_options(Line(6), asked(6, most=3), rankings, MARGIN)) == [1, 4, 5]
    assert indices(by_options(Line(6), asked(6, most=2), rankings, MARGIN)) == list(range(6))


def test_several_of_many_are_named_by_one_option():
    seas = [0.6 if i in (3, 30, 50) else 0.2 for i in range(60)]
    road = [0.6 if i == 7 else 0.2 for i in range(60)]
    found = by_options(Line(60), asked(60), [scores(*seas), scores(*road)], MARGIN)
    assert indices(found) == [3, 7, 30, 50]


@pytest.mark.parametrize(
    ("text", "options", "quoted"),
    [
        ("Which comes first, the sea scene or the cave?", ("the cave", "The sea scene."), True),
        (
            "Which comes first, the sea scene or the cave?",
            ("A. the cave", "B. the sea scene"),
            True,
        ),
        ("Which season is it?", ("sea", "son"), False),  # whole words
        ("Is the sea blue?", ("the sea", "the cave"), False),
        ("Is it the sea?", ("the sea",), False),
        ("Is it yes or no?", ("", ""), False),
    ],
)
def test_a_question_may_quote_its_options(text: str, options: tuple[str, ...], quoted: bool):
    question = Question(text=text, options=options)
    named = Selection(events=(hit(1),), matched=(hit(1),))
    assert quotes(question) is quoted
    assert asks_options(question, named) is quoted
    assert not asks_options(dataclasses.replace(question, k=2), named)
    assert asks_options(question, Selection(events=(hit(1),), matched=()))


def test_each_quoted_option_finds_its_own_event_and_then_neighbours():
    one, other = scores(*([0.1] * 7), 0.9), scores(0.8, *([0.1] * 7))
    found = by_quoted(Line(8), asked(8), [one, other])
    assert [h.index for h in found.matched] == [7, 0]
    assert sorted(h.index for h in found.events) == [0, 6, 7]
    assert all(h.cosine == 0.35 for h in found.matched)  # how well the question fits is kept
    same = by_quoted(Line(8), asked(8), [one, one])
    assert [h.index for h in same.matched] == [7]
    four = [scores(*(0.9 if i == j else 0.1 for i in range(8))) for j in range(4)]
    for rankings in (four, [[], []]):
        assert by_quoted(Line(8), asked(8), rankings) == asked(8).selection


class Searched:
    """An archive of four events; notes what it was asked. An option's vector is its place."""

    def __init__(self) -> None:
        self.line, self.queries = Line(4), []

    def search(self, queries: Any, vectors_QD: Any) -> list[list[SearchHit]]:
        self.queries.append([(q.text, q.filter) for q in queries])
        return [scores(*row) for row in vectors_QD]

    def count(self, filter: EventFilter) -> int:
        return self.line.count(filter)


class OneHot:
    """Fits one event: "2" the third, and "x" fits all alike."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def encode_texts(self, texts: Any) -> np.ndarray:
        self.texts.append(list(texts))
        return np.array([[0.4] * 4 if t == "x" else np.eye(4)[int(t)] for t in texts])


def test_all_options_are_embedded_at_once_and_searched_with_the_questions_filter():
    archive, encoder, timings = Searched(), OneHot(), {"embed": 1.0}
    where = EventFilter(video_ids=("v",))
    first = asked(4, options=("A. 2", "B. 0"))
    first = dataclasses.replace(first, question=dataclasses.replace(first.question, filter=where))
    other = asked(4, options=("2", "x"))
    found = narrow(archive, encoder, [first, other], MARGIN, timings)
    assert [indices(s) for s in found] == [[0, 2], [0, 1, 2, 3]]
    assert encoder.texts == [["2", "0", "x"]]
    assert archive.queries == [
        [("2", where), ("0", where), ("2", EventFilter()), ("x", EventFilter())]
    ]
    assert timings["embed"] > 1.0
    assert timings["retrieve"] > 0.0


def test_nothing_is_embedded_where_no_question_has_options():
    archive, encoder, timings = Searched(), OneHot(), {}
    assert narrow(archive, encoder, [], MARGIN, timings) == []
    empty = asked(4, options=("", " "))
    assert narrow(archive, encoder, [empty], MARGIN, timings) == [empty.selection]
    assert (encoder.texts, archive.queries, timings) == ([], [], {})
