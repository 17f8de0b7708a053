"""Whatever a request says wrongly is one clear error that names the value, never an odd answer."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pytest

from marc_core.errors import AnswerError
from marc_core.question import EventFilter, Question, Sampling, SearchQuery, Turn

NAIVE = dt.datetime(2026, 3, 1, 20)
WRONG: list[tuple[type, dict[str, Any], str]] = [
    (SearchQuery, {"text": 5}, "text must be text. Got 5."),
    (
        SearchQuery,
        {"text": "caf\udce9"},
        "text must be text that UTF-8 can hold. Got 'caf\\udce9'.",
    ),
    (SearchQuery, {"text": "a", "limit": 0}, "limit must be a whole number from 1. Got 0."),
    (SearchQuery, {"text": "a", "limit": -1}, "limit must be a whole number from 1. Got -1."),
    (SearchQuery, {"text": "a", "limit": 2.5}, "limit must be a whole number from 1. Got 2.5."),
    (SearchQuery, {"text": "a", "limit": True}, "limit must be a whole number from 1. Got True."),
    (SearchQuery, {"text": "a", "limit": None}, "limit must be a whole number from 1. Got None."),
    (SearchQuery, {"text": "a", "offset": -3}, "offset must be a whole number from 0. Got -3."),
    (SearchQuery, {"text": "a", "offset": "3"}, "offset must be a whole number from 0. Got '3'."),
    (SearchQuery, {"event_id": b"x"}, "event_id must be text. Got b'x'."),
    (SearchQuery, {"image": "a.jpg"}, "image must be the bytes of an image file. Got 'a.jpg'."),
    (SearchQuery, {"text": "a", "filter": None}, "filter must be an EventFilter. Got None."),
    (EventFilter, {"start_s": "5"}, "start_s (--from) must be a finite number. Got '5'."),
    (EventFilter, {"start_s": math.nan}, "start_s (--from) must be a finite number. Got nan."),
    (EventFilter, {"end_s": math.inf}, "end_s (--to) must be a finite number. Got inf."),
    (EventFilter, {"end_s": False}, "end_s (--to) must be a finite number. Got False."),
    (EventFilter, {"tags": "night"}, "tags must be a list of texts. Got 'night'."),
    (EventFilter, {"tags": (1,)}, "tags must be a list of texts. Got (1,)."),
    (EventFilter, {"video_ids": "v1"}, "video_ids must be a list of texts. Got 'v1'."),
    (EventFilter, {"camera": 3}, "camera must be text. Got 3."),
    (EventFilter, {"folder": b"/a"}, "folder must be text. Got b'/a'."),
    (EventFilter, {"recorded_from": "2026"}, "recorded_from (--since) must be a datetime"),
    (EventFilter, {"recorded_to": NAIVE}, "recorded_to (--until) must carry an offset from UTC"),
    (Question, {"text": None}, "text must be text. Got None."),
    (Question, {"text": "a", "options": "left"}, "options must be a list of texts. Got 'left'."),
    (Question, {"text": "a", "k": 1.5}, "k must be a whole number. Got 1.5."),
    (Question, {"text": "a", "budget_tokens": "9"}, "budget_tokens must be a whole number."),
    (Question, {"text": "a", "history": ["x"]}, "history must be a list of turns. Got ['x']."),
    (Question, {"text": "a", "sampling": 1}, "sampling must be a Sampling. Got 1."),
    (Sampling, {"temperature": -1}, "temperature of a question must be 0 or more. Got -1."),
    (Sampling, {"temperature": math.nan}, "temperature must be a finite number. Got nan."),
    (Sampling, {"max_tokens": 0}, "max_tokens of a question must be 1 or more. Got 0."),
    (Sampling, {"n": 0}, "n of a question must be 1 or more. Got 0."),
    (Sampling, {"n": "2"}, "n must be a whole number. Got '2'."),
    (Sampling, {"seed": -1}, "seed must be a whole number from 0 to 2^63 - 1. Got -1."),
    (Sampling, {"stop": "x"}, "stop must be a list of texts. Got 'x'."),
    (Turn, {"role": "system", "text": "a"}, "role must be user or assistant. Got 'system'."),
    (Turn, {"role": "user", "text": 1}, "text must be text. Got 1."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "said"), WRONG, ids=lambda v: str(v)[:40])
def test_what_is_wrong_is_named(kind: type, values: dict[str, Any], said: str) -> None:
    with pytest.raises(AnswerError) as error:
        kind(**values)
    assert said in str(error.value)


def test_numbers_of_numpy_and_lists_become_plain_values() -> None:
    query = SearchQuery(
        text=np.str_("a"), limit=np.int64(3),  # type: ignore[arg-type]
        filter=EventFilter(tags=["night"], start_s=np.float32(1.5)),  # type: ignore[arg-type]
    )  # fmt: skip
    assert query == SearchQuery(text="a", limit=3, filter=EventFilter(tags=("night",), start_s=1.5))
    assert SearchQuery.from_json(json.loads(json.dumps(query.to_json()))) == query


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (Question, {"text": "a", "texts": 1}, "A question has no field 'texts'. It may have: text"),
        (Question, {}, "A question must have a text."),
        (Question, {"text": "a", "sampling": {"top_p": 1}}, "A sampling has no field 'top_p'"),
        (Question, {"text": "a", "filter": {"since": 1}}, "A filter has no field 'since'"),
        (Question, {"text": "a", "filter": [1]}, "A filter must be an object. Got [1]."),
        (Question, {"text": "a", "history": [{"role": "user"}]}, "A turn must have a text."),
        (Question, {"text": "a", "history": 3}, "history must be a list of turns. Got 3."),
        (SearchQuery, {"image": "%"}, "image must be base64"),
        (SearchQuery, {"filter": {"recorded_from": "today"}}, "recorded_from (--since) must be"),
        (SearchQuery, [], "A search must be an object. Got []."),
    ],
    ids=str,
)
def test_json_that_is_no_request(kind: Any, data: Any, said: str) -> None:
    with pytest.raises(AnswerError) as error:
        kind.from_json(data)
    assert said in str(error.value)
