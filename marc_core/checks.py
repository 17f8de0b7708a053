"""Checks of what a request says: each returns the plain value, or raises AnswerError by name."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from marc_core.errors import AnswerError

T = TypeVar("T")


def text(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise _wrong(name, "must be text", value)
    return str(value)


def words(name: str, value: Any) -> str:
    """Return a text that a tokenizer can read; names of files may hold any bytes, words may not."""
    if any("\ud800" <= c <= "\udfff" for c in text(name, value)):
        raise _wrong(name, "must be text that UTF-8 can hold", value)
    return str(value)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Return texts; one text alone is refused, because its letters would be meant."""
    return every(name, value, str, "texts")


def every(name: str, value: Any, kind: type[T], kinds: str) -> tuple[T, ...]:
    """Return the values of a list or tuple, all of one kind."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        listed = tuple(value)
        if all(isinstance(item, kind) for item in listed):
            return listed
    raise _wrong(name, f"must be a list of {kinds}", value)


def whole(name: str, value: Any, least: int | None = None, most: str = "") -> int:
    """Return a whole number of at least `least`; `most` stands in the error only."""
    rule = "must be a whole number" + ("" if least is None else f" from {least}") + most
    if isinstance(value, bool):
        raise _wrong(name, rule, value)
    try:
        number = operator.index(value)
    except TypeError:
        raise _wrong(name, rule, value) from None
    if least is not None and number < least:
        raise _wrong(name, rule, value)
    return number


def finite(name: str, value: Any) -> float:
    """Return a finite number; a whole one stays one."""
    try:
        if isinstance(value, bool | str | bytes) or not math.isfinite(value):
            raise _wrong(name, "must be a finite number", value)
    except (TypeError, OverflowError):
        raise _wrong(name, "must be a finite number", value) from None
    return value if isinstance(value, int) else float(value)


def moment(name: str, value: Any) -> dt.datetime:
    """Return a point in time that has an offset from UTC."""
    if not isinstance(value, dt.datetime):
        raise _wrong(name, "must be a datetime, or a time in ISO 8601 where it is JSON", value)
    if value.utcoffset() is None:
        raise AnswerError(
            f"{name} must carry an offset from UTC, such as 2026-03-01T22:15:00+01:00. Got "
            f"{value.isoformat()}: say in which time zone it is."
        )
    try:
        value.astimezone(dt.UTC)
    except OverflowError:
        raise AnswerError(
            f"{name} must lie in the years 1 to 9999 in UTC. Got {value.isoformat()}."
        ) from None
    return value


def instance(name: str, value: Any, kind: type[T]) -> T:
    """Return a value of a class of ours."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise _wrong(name, f"must be {article} {kind.__name__}", value)
    return value


def fields(what: str, data: Any, kind: type) -> dict[str, Any]:
    """Return the fields of a JSON object that becomes `kind`, none unknown and none missing."""
    if not isinstance(data, Mapping):
        raise _wrong(f"A {what}", "must be an object", data)
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in data:
        if name not in known:
            raise AnswerError(f"A {what} has no field '{name}'. It may have: {', '.join(known)}.")
    for name, field in known.items():
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and name not in data:
            raise AnswerError(f"A {what} must have a {name}.")
    return dict(data)


def _wrong(name: str, rule: str, value: Any) -> AnswerError:
    shown = repr(value)
    return AnswerError(f"{name} {rule}. Got {shown if len(shown) <= 80 else shown[:77] + '...'}.")
