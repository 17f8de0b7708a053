"""Conditions on table rows, as SQL text in which every value is a quoted literal.

LanceDB's own `Expr.to_sql()` leaves a quote that follows a backslash, and a doubled quote, as they
are, and its expressions know no list functions (tags). So the one function that may put a value
into SQL is `quote` here, tested with hostile strings.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence

from marc_core.filenames import spellings
from marc_core.question import EventFilter


def filter_to_sql(filter: EventFilter, names: Collection[str] = ("text_kinds",)) -> str | None:
    """Return the condition on rows of `events`, or None when everything matches.

    names: the table's columns; one that an older version made lacks `text_kinds`.
    """
    parts = []
    if filter.video_ids is not None:
        parts.append(is_in("video_id", filter.video_ids))
    if filter.folder is not None:
        parts.append(_in_folder(filter.folder))
    if filter.camera is not None:
        parts.append(f"camera = {quote(filter.camera)}")
    if filter.tags:
        parts.append(f"array_has_all(tags, [{', '.join(map(quote, filter.tags))}])")
    if filter.recorded_from is not None:
        parts.append(f"recorded_to > {moment_literal(filter.recorded_from)}")
    if filter.recorded_to is not None:
        parts.append(f"recorded_from < {moment_literal(filter.recorded_to)}")
    if filter.start_s is not None:
        parts.append(f"end_s - video_start_s > {float(filter.start_s)!r}")
    if filter.end_s is not None:
        parts.append(f"start_s - video_start_s < {float(filter.end_s)!r}")
    if filter.kinds:
        parts.append(_has_text_of(filter.kinds, "text_kinds" in names))
    return " AND ".join(parts) or None


def quote(value: str) -> str:
    """Return `value` as an SQL string literal; the dialect's only special character is '.

    What UTF-8 cannot hold (halves of surrogate pairs) becomes a question mark.
    """
    text = value.encode(errors="replace").decode()
    return "'" + text.replace("'", "''") + "'"


def is_in(column: str, values: Iterable[str]) -> str:
    """Return `column IN (...)`; nothing is in an empty list. `column` is ours, never a user's."""
    listed = ", ".join(map(quote, values))
    return f"{column} IN ({listed})" if listed else "false"


def _in_folder(folder: str) -> str:
    """Return the condition that a video lies in this folder or below it, however it is written."""
    parts = [
        f"folder = {quote(path)} OR starts_with(folder, {quote(path + '/')})"
        for path in spellings(folder)
    ]
    return f"({' OR '.join(parts)})"


def _has_text_of(kinds: Sequence[str], is_told: bool) -> str:
    """Return the condition that an event has text of one of these kinds.

    Where the kinds of its text are not told, an older version wrote it, which knew sidecars only.
    """
    older = "text IS NOT NULL" if "sidecar" in kinds else "false"
    if not is_told:
        return older
    named = f"array_has_any(text_kinds, [{', '.join(map(quote, kinds))}])"
    return f"({named} OR (text_kinds IS NULL AND {older}))"


def moment_literal(value: dt.datetime) -> str:
    """Return a moment as an SQL literal."""
    moment = value.astimezone(dt.UTC).replace(tzinfo=None)
    return f"timestamp '{moment.isoformat(timespec='microseconds')}Z'"
