"""Methods of replicas: a call works on a request, is told in the log, is a step of its trace."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from marc_core.errors import MarcError
from serving.context import NOBODY, Context
from serving.tracing import span

log = logging.getLogger("marc.serving")


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
            call = method.__name__
            with span(f"{part}.{call}", context, "SERVER"), told(part, call, context):
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
            call = method.__name__
            with span(f"{part}.{call}", context, "SERVER"), told(part, call, context):
                async with aclosing(method(self, *args)) as items:  # type: ignore[type-var]
                    async for item in items:
                        yield item

        return run

    return decorate
