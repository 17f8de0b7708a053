"""A request's id goes with its calls into every process, and into what is logged there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from marc_core.errors import AnswerError
from serving.carried import carried, carried_stream
from serving.context import NOBODY, Context, current
from tests.serving.conftest import logged

MINE = Context(request_id="mine")


class Part:
    """A replica's methods: each says whose request it works on."""

    def __init__(self) -> None:
        self.closed = False

    @carried("part")
    async def whose(self, more: str) -> str:
        return current().request_id + more

    @carried("part")
    async def fails(self, error: Exception) -> None:
        raise error

    @carried_stream("part")
    async def stream(self, count: int) -> AsyncIterator[str]:
        try:
            for i in range(count):
                yield current().request_id + str(i)
        finally:
            self.closed = True


def test_a_call_knows_its_request_and_says_how_it_ended() -> None:
    async def ask() -> list[str]:
        calls = [Part().whose(".", context=Context(request_id=f"r{i}")) for i in range(3)]
        return await asyncio.gather(*calls, Part().whose("."))

    with logged() as lines:
        assert asyncio.run(ask()) == ["r0.", "r1.", "r2.", "."]
    told = [(line["part"], line["call"], line["outcome"], line["request_id"]) for line in lines()]
    assert told == [("part", "whose", "ok", f"r{i}") for i in range(3)] + [
        ("part", "whose", "ok", "")
    ]
    assert current() == NOBODY


@pytest.mark.parametrize(
    ("error", "level", "has_traceback"),
    [(AnswerError("no event"), "info", False), (TimeoutError(), "info", False),
     (RuntimeError("a bug"), "error", True)],
)  # fmt: skip
def test_what_fails_is_told_under_its_request(
    error: Exception, level: str, has_traceback: bool
) -> None:
    with logged() as lines, pytest.raises(type(error)):
        asyncio.run(Part().fails(error, context=MINE))
    (line,) = lines()
    assert (line["level"], line["outcome"]) == (level, type(error).__name__)
    assert line["request_id"] == "mine"
    assert ("traceback" in line) is has_traceback


def test_a_stream_that_is_left_ends_at_once_and_is_told() -> None:
    part = Part()

    async def leave() -> str:
        stream = part.stream(9, context=MINE)
        first = await anext(stream)
        await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
        return first

    with logged() as lines:
        assert asyncio.run(leave()) == "mine0"
    assert part.closed
    assert [(line["outcome"], line["request_id"]) for line in lines()] == [("cancelled", "mine")]

    async def read() -> list[str]:
        return [text async for text in part.stream(2, context=MINE)]

    with logged() as lines:
        assert asyncio.run(read()) == ["mine0", "mine1"]
    assert [line["outcome"] for line in lines()] == ["ok"]


def test_a_line_outside_of_any_call_has_no_id() -> None:
    import logging

    with logged() as lines, contextlib.nullcontext():
        logging.getLogger("marc.serving").warning("starting")
    (line,) = lines()
    assert "request_id" not in line
