"""Requests become questions unchanged; what is not understood is refused by name."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from marc_core.question import EventFilter, Question, Sampling, Turn
from serving.request_schemas import ChatRequest, Filter, SearchRequest

ASK = {"model": "marc", "messages": [{"role": "user", "content": "What moves?"}]}


def kinds(cls: Any, body: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        cls.model_validate(body)
    return [(".".join(map(str, e["loc"])), e["type"]) for e in caught.value.errors()]


def test_a_chat_request_says_all_that_a_question_can() -> None:
    request = ChatRequest.model_validate(
        {
            "model": "marc",
            "messages": [
                {"role": "user", "content": "What moves?"},
                {"role": "assistant", "content": "A circle."},
                {"role": "user", "content": [{"type": "text", "text": "Which"},
                                             {"type": "text", "text": "way?"}]},
            ],
            "temperature": 0.5, "max_tokens": 7, "seed": 3, "stop": ["\n", "."], "n": 2,
            "marc": {"options": ["left", "right"], "k": 2, "budget_tokens": 18,
                     "filter": {"camera": "gate", "recorded_from": "2026-05-01T08:00:00+02:00"}},
        }
    )  # fmt: skip
    filter = request.marc.filter.to_filter()
    assert filter == EventFilter(
        camera="gate", recorded_from=dt.datetime(2026, 5, 1, 6, tzinfo=dt.UTC)
    )
    assert request.to_question(filter) == Question(
        text="Which\nway?",
        history=(Turn(role="user", text="What moves?"), Turn(role="assistant", text="A circle.")),
        options=("left", "right"),
        filter=filter,
        k=2,
        budget_tokens=18,
        sampling=Sampling(temperature=0.5, max_tokens=7, seed=3, stop=("\n", "."), n=2),
    )


def test_what_is_left_out_is_left_to_the_deployment() -> None:
    request = ChatRequest.model_validate(ASK)
    assert request.to_question(EventFilter()) == Question(text="What moves?")
    again = ChatRequest.model_validate(ASK | {"max_completion_tokens": 9, "stop": "x"})
    assert again.to_question(EventFilter()).sampling == Sampling(max_tokens=9, stop=("x",))


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"top_p": 0.5}, "top_p"),
        ({"tools": []}, "tools"),
        ({"marc": {"mode": "plain"}}, "marc.mode"),
        ({"marc": {"filter": {"camra": "x"}}}, "marc.filter.camra"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
    ],
)
def test_unknown_fields_are_refused_by_name(more: dict[str, Any], where: str) -> None:
    assert (where, "extra_forbidden") in kinds(ChatRequest, ASK | more)


@pytest.mark.parametrize(
    "more",
    [
        {"n": "2"}, {"n": 0}, {"n": 10_000}, {"temperature": -1}, {"temperature": float("nan")},
        {"seed": -1}, {"seed": 2**63}, {"stream": "yes"}, {"messages": []}, {"max_tokens": 0},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
        {"marc": {"filter": {"recorded_to": "2026-05-01T08:00:00"}}},
        {"marc": {"filter": {"recorded_to": 1_700_000_000}}},
        {"marc": {"filter": {"start_s": float("inf")}}},
    ],
)  # fmt: skip
def test_values_that_break_a_rule_are_refused(more: dict[str, Any]) -> None:
    kinds(ChatRequest, ASK | more)


def test_a_whole_number_may_be_written_as_json_may() -> None:
    assert SearchRequest.model_validate({"text": "x", "limit": 3.0}).limit == 3
    assert kinds(SearchRequest, {"text": "x", "limit": 3.5}) == [("limit", "int_type")]
    assert kinds(SearchRequest, {"text": "x", "limit": True}) == [("limit", "int_type")]


def test_a_search_asks_for_one_more_than_its_page() -> None:
    request = SearchRequest.model_validate({"text": "x", "limit": 5, "offset": 10})
    query = request.to_query(EventFilter(camera="a"), None)
    assert (query.text, query.limit, query.offset) == ("x", 6, 10)
    assert query.filter == EventFilter(camera="a")


def test_an_empty_list_of_videos_matches_nothing_and_none_matches_all() -> None:
    assert Filter.model_validate({"video_ids": []}).to_filter() == EventFilter(video_ids=())
    assert Filter().to_filter() == EventFilter()
