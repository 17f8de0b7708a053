"""What goes with a request through every process: its id, which logs name, and its trace.

Edge --entered--> routes --current()--> handle --context--> replica --entered--> its work
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """A request, as far as all processes need to know of it. trace: the span that calls, as W3C
    trace context; empty where nothing is traced."""

    request_id: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)


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
