"""The unchanged `openai` client: chat, streams, samples, errors as its exceptions."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient

from marc_core.question import EventFilter
from serving.request_schemas import MAX_SEED
from serving.retriever import MemoryRetriever

ASK: list[Any] = [{"role": "user", "content": "What colour is the circle?"}]
OPTIONS = ["red", "green", "blue", "yellow"]


@pytest.fixture
def ai(client: TestClient) -> openai.OpenAI:
    return openai.OpenAI(
        base_url="http://127.0.0.1/v1", api_key="none", http_client=client, max_retries=0
    )


def ask(ai: openai.OpenAI, **more: Any) -> Any:
    return ai.chat.completions.create(**{"model": "marc", "messages": ASK} | more)


def test_an_answer_is_the_sessions_own(ai: openai.OpenAI, retriever: MemoryRetriever) -> None:
    found = ask(ai, extra_body={"marc": {"options": OPTIONS, "k": 1}})
    own = retriever.session.ask(ASK[0]["content"], options=OPTIONS, k=1).answer
    assert found.choices[0].message.content == own.text
    assert found.choices[0].finish_reason == own.finish_reason
    marc = found.model_extra["marc"]
    assert [c["event_id"] for c in marc["citations"]] == [c.event_id for c in own.citations]
    assert marc["tokens"] == {
        "before": own.usage.source_tokens, "after": own.usage.visual_tokens
    }  # fmt: skip
    assert found.usage.prompt_tokens == own.usage.prompt_tokens
    assert found.usage.completion_tokens == own.usage.generated_tokens
    assert set(own.timings_s) | {"total"} == set(marc["timings"])


def test_a_stream_says_what_the_whole_answer_says(ai: openai.OpenAI) -> None:
    whole = ask(ai)
    chunks = list(ask(ai, stream=True, stream_options={"include_usage": True}))
    *told, usage = chunks
    text = "".join(c.choices[0].delta.content or "" for c in told)
    assert text == whole.choices[0].message.content
    assert told[0].choices[0].delta.role == "assistant"
    assert told[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert usage.choices == []
    assert usage.usage == whole.usage
    marc, same = told[-1].model_extra["marc"], whole.model_extra["marc"]
    assert (marc["citations"], marc["tokens"]) == (same["citations"], same["tokens"])
    assert "first_token" in marc["timings"]
    assert not any("marc" in c.model_extra for c in told[:-1])


def test_a_warning_reaches_the_client(
    ai: openai.OpenAI, retriever: MemoryRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(ai).model_extra["marc"]["warning"] is None
    monkeypatch.setattr(retriever.preparer, "_warning", lambda _: "not to be trusted")
    assert ask(ai).model_extra["marc"]["warning"] == "not to be trusted"
    *_, last = ask(ai, stream=True)
    assert last.model_extra["marc"]["warning"] == "not to be trusted"


def test_samples_with_a_seed_repeat_and_each_ends_once(ai: openai.OpenAI) -> None:
    given = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": 6}
    whole = [c.message.content for c in ask(ai, **given).choices]
    assert [c.message.content for c in ask(ai, **given).choices] == whole
    texts, ends = ["", "", ""], []
    for chunk in ask(ai, stream=True, **given):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert texts == whole
    assert sorted(ends) == [0, 1, 2]


def test_the_largest_seed_repeats_too(ai: openai.OpenAI) -> None:
    given = {"n": 2, "temperature": 1.0, "seed": MAX_SEED, "max_tokens": 6}
    whole = [c.message.content for c in ask(ai, **given).choices]
    assert [c.message.content for c in ask(ai, **given).choices] == whole
    with pytest.raises(openai.UnprocessableEntityError):
        ask(ai, seed=MAX_SEED + 1)


def test_max_tokens_and_stop_end_an_answer(ai: openai.OpenAI) -> None:
    short = ask(ai, max_tokens=1)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 1
    whole = ask(ai).choices[0].message.content
    stop = whole.split()[0][-1]
    assert ask(ai, stop=[stop]).choices[0].message.content == whole.partition(stop)[0]


def test_earlier_turns_reach_the_student_and_the_search(
    ai: openai.OpenAI, retriever: MemoryRetriever
) -> None:
    turns = [
        {"role": "user", "content": "What moves in the snow?"},
        {"role": "assistant", "content": "a diamond"},
        {"role": "user", "content": [{"type": "text", "text": "Which way does it move?"}]},
    ]
    found = ask(ai, messages=turns)
    own = retriever.session.ask(
        "Which way does it move?",
        history=[("user", "What moves in the snow?"), ("assistant", "a diamond")],
    ).answer
    assert found.choices[0].message.content == own.text
    assert found.usage.prompt_tokens == own.usage.prompt_tokens


def test_a_filter_holds(ai: openai.OpenAI, retriever: MemoryRetriever) -> None:
    (event,) = retriever.session.archive.events(EventFilter(), limit=1)
    body = {"marc": {"filter": {"video_ids": [event.video_id]}}}
    marc = ask(ai, extra_body=body).model_extra["marc"]
    assert {c["video_id"] for c in marc["citations"]} == {event.video_id}


@pytest.mark.parametrize(
    ("more", "error", "code", "param"),
    [
        ({"top_p": 0.9}, openai.BadRequestError, "unsupported_parameter", "top_p"),
        ({"tools": []}, openai.BadRequestError, "unsupported_parameter", "tools"),
        ({"model": "gpt"}, openai.NotFoundError, "model_not_found", "model"),
        ({"n": 0}, openai.UnprocessableEntityError, "invalid_value", "n"),
        ({"temperature": "hot"}, openai.UnprocessableEntityError, "invalid_value", "temperature"),
        ({"messages": []}, openai.UnprocessableEntityError, "invalid_value", "messages"),
        (
            {"messages": [*ASK, {"role": "assistant", "content": "x"}]},
            openai.UnprocessableEntityError, "invalid_value", "messages",
        ),
        (
            {"messages": [{"role": "system", "content": "x"}, *ASK]},
            openai.UnprocessableEntityError, "invalid_value", "messages.0.role",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            openai.BadRequestError, "unsupported_parameter", "messages.0.content.0.image_url",
        ),
        (
            {"messages": [{"role": "user", "content": 7}]},
            openai.UnprocessableEntityError, "invalid_value", "messages.0.content",
        ),
        ({"messages": [{"role": "user", "content": " "}]},
            openai.UnprocessableEntityError, "unanswerable", None),
        ({"extra_body": {"marc": {"k": 999}}},
            openai.UnprocessableEntityError, "unanswerable", None),
        ({"extra_body": {"marc": {"filter": {"camera": "nowhere"}}}},
            openai.UnprocessableEntityError, "unanswerable", None),
        ({"max_tokens": 3, "max_completion_tokens": 4},
            openai.UnprocessableEntityError, "invalid_value", "max_completion_tokens"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_exceptions(
    ai: openai.OpenAI, more: Any, error: type[Exception], code: str, param: str | None, stream: bool
) -> None:
    with pytest.raises(error) as caught:
        ask(ai, stream=stream, **more)
    found: Any = caught.value
    assert (found.code, found.param) == (code, param)


def test_models_are_listed(ai: openai.OpenAI) -> None:
    assert [m.id for m in ai.models.list()] == ["marc"]
    assert ai.models.retrieve("marc").owned_by == "marc"
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("other")
