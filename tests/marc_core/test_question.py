"""Requests survive the way through JSON, and say what is searched for."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from marc_core.errors import AnswerError
from marc_core.question import EventFilter, Question, Sampling, SearchQuery, Turn

FILTER = EventFilter(
    video_ids=("a", "b"),
    folder="/videos/gate",
    tags=("night",),
    recorded_from=dt.datetime(2026, 3, 1, 22, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    start_s=1.5,
)


def test_a_question_survives_json():
    question = Question(
        text="and then?",
        history=(Turn(role="user", text="who is it?"), Turn(role="assistant", text="a cat")),
        options=("left", "right"),
        filter=FILTER,
        k=2,
        budget_tokens=9,
        sampling=Sampling(temperature=0.7, max_tokens=5, seed=3, stop=("\n",), n=4),
    )
    assert Question.from_json(json.loads(json.dumps(question.to_json()))) == question


def test_a_plain_question_needs_only_its_text():
    assert Question.from_json({"text": "who?"}) == Question(text="who?")


def test_a_search_query_survives_json_with_its_image():
    query = SearchQuery(image=b"\xff\xd8\x00picture", filter=FILTER, limit=3, offset=6)
    assert SearchQuery.from_json(json.loads(json.dumps(query.to_json()))) == query


def test_a_follow_up_is_searched_with_the_earlier_questions_not_the_answers():
    history = (Turn(role="user", text="who is it?"), Turn(role="assistant", text="a cat"))
    assert Question(text="and then?", history=history).search_text == "who is it?\nand then?"


def test_a_filter_knows_whether_it_names_only_videos():
    assert EventFilter(video_ids=("a",)).names_only_videos
    assert not EventFilter(video_ids=("a",), camera="gate").names_only_videos


def test_a_time_that_ends_before_it_begins_is_refused():
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    assert EventFilter(recorded_from=noon, recorded_to=noon, start_s=3.0, end_s=3.0)
    with pytest.raises(AnswerError, match=r"\(--since\) must not lie after .*\(--until\)"):
        EventFilter(recorded_from=noon, recorded_to=noon - dt.timedelta(seconds=1))
    with pytest.raises(AnswerError, match=r"\(--from\) must not lie after .*\(--to\)"):
        EventFilter(start_s=60.0, end_s=5.0)
