"""Conditions on table rows, as SQL text in which every value is a quoted literal.

LanceDB's own `Expr.to_sql()` leaves a quote that follows a backslash, and a doubled quote, as they
are, and its expressions know no list functions (tags). So the one function that may put a value
into SQL is `quote` here, tested with hostile strings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from marc_core.errors import MemoryStoreError


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFilter:
    """Which events may be found. None, or no tags: no condition.

    video_ids: events of these videos only; an empty tuple matches nothing.
    camera: exact name. tags: all of them must be there.
    start_s: the event ends after this second; end_s: it starts before this second (of its video).
    """

    video_ids: tuple[str, ...] | None = None
    camera: str | None = None
    tags: tuple[str, ...] = ()
    start_s: float | None = None
    end_s: float | None = None

    def to_sql(self) -> str | None:
        """Return the condition, or None when everything matches.

        Raises MemoryStoreError for seconds that are not finite.
        """
        parts = []
        if self.video_ids is not None:
            parts.append(is_in("video_id", self.video_ids))
        if self.camera is not None:
            parts.append(f"camera = {quote(self.camera)}")
        if self.tags:
            parts.append(f"array_has_all(tags, [{', '.join(map(quote, self.tags))}])")
        if self.start_s is not None:
            parts.append(f"end_s > {_number('start_s', self.start_s)}")
        if self.end_s is not None:
            parts.append(f"start_s < {_number('end_s', self.end_s)}")
        return " AND ".join(parts) or None


def quote(value: str) -> str:
    """Return `value` as an SQL string literal; the dialect's only special character is '."""
    return "'" + value.replace("'", "''") + "'"


def is_in(column: str, values: Iterable[str]) -> str:
    """Return `column IN (...)`; nothing is in an empty list. `column` is ours, never a user's."""
    listed = ", ".join(map(quote, values))
    return f"{column} IN ({listed})" if listed else "false"


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        raise MemoryStoreError(
            f"The filter's {name} must be a finite number of seconds. Got {value}."
        )
    return repr(float(value))
