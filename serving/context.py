"""What goes with a request through every process: its id, which logs name.

Edge --entered--> routes --current()--> handle --context--> replica --entered--> its work
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from marc_core.errors import MarcError

log = logging.getLogger("marc.serving")


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """A request, as far as all processes need to know of it."""

    request_id: str = ""


NOBODY = Context()
_current: ContextVar[Context] = ContextVar("marc_request", default=NOBODY)


def current() -> Context:
    """Return the request that is being worked on here."""
    return _current.get()


@contextmanager
def entered(context: Context) -> Iterator[None]:
    """Work on a request in this block."""
    before = _current.get()
    _current.set(context)
    try:
        yield
    finally:
        _current.set(before)  # not by token: a generator may be closed from another task


@contextmanager
def told(part: str, call: str, context: Context) -> Iterator[None]:
    """Say in the log how a call of a part has ended, under its request's id; what nobody has
    foreseen, with its traceback."""
    started, outcome, problem = time.perf_counter(), "ok", None
    try:
        yield
    except Exception as error:
        outcome = type(error).__name__
        problem = None if isinstance(error, MarcError | TimeoutError) else error
        raise
    except BaseException:  # the reader has left
        outcome = "cancelled"
        raise
    finally:
        more = {
            "part": part, "call": call, "outcome": outcome, "request_id": context.request_id,
            "seconds": round(time.perf_counter() - started, 4),
        }  # fmt: skip
        log.log(logging.INFO if problem is None else logging.ERROR, "call", exc_info=problem,
                extra=more)  # fmt: skip


def carried(part: str) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """Return a decorator for methods of replicas, which are called with `context=`."""

    def decorate(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def run(self: Any, *args: Any, context: Context = NOBODY) -> Any:
            with entered(context), told(part, method.__name__, context):
                return await method(self, *args)

        return run

    return decorate


def carried_stream(
    part: str,
) -> Callable[[Callable[..., AsyncIterator[Any]]], Callable[..., AsyncIterator[Any]]]:
    """Return the same for methods that are asynchronous generators."""

    def decorate(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        @functools.wraps(method)
        async def run(self: Any, *args: Any, context: Context = NOBODY) -> AsyncIterator[Any]:
            with entered(context), told(part, method.__name__, context):
                async with aclosing(method(self, *args)) as items:  # type: ignore[type-var]
                    async for item in items:
                        yield item

        return run

    return decorate
