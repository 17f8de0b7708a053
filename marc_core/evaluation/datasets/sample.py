"""One question of a benchmark, in the one form that every loader produces.

The fields are those of the Video-R1 evaluation files (problem_id, problem, data_type,
problem_type, options, solution, path); the benchmarks' own forms are brought to them by
`adapters.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from marc_core.errors import MarcError
from marc_core.scoring.options import ProblemType

NAMES_ONE_EVENT = "names-one-event"
"""Tag of questions that name exactly one event: on these, retrieval itself is scored."""


class BenchmarkError(MarcError):
    """A benchmark file is missing or a row of it is malformed. Names the file, row and field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One question.

    problem: the question without its options.
    options: as shown to the model, in order, each with its label ("A. red").
    solution: the right answer without tags: a letter, a number or a text.
    path: the video (or image), absolute or relative to the working directory; need not exist.
    task: the benchmark's own category, used for its tables; "" where it has none.
    evidence: [start_s, end_s) stretches that hold the answer, where the benchmark names them.
    tags: further groups of the tables ("temporal", "long"); NAMES_ONE_EVENT has a meaning.
    clip_start_s, clip_end_s: the stretch of the video that the question is about; None = all.
    """

    problem_id: str
    benchmark: str
    task: str
    problem: str
    data_type: Literal["video", "image"]
    problem_type: ProblemType
    options: tuple[str, ...]
    solution: str
    path: str
    evidence: tuple[tuple[float, float], ...] = ()
    tags: tuple[str, ...] = ()
    clip_start_s: float | None = None
    clip_end_s: float | None = None


class Row:
    """A row of a benchmark file with access that names file, row and field when it fails."""

    def __init__(self, values: Any, *, file: str, index: int) -> None:
        self.file, self.index = file, index
        if not isinstance(values, Mapping):
            raise BenchmarkError(
                f"{self.where()} must be an object with named fields. Got {_short(values)}."
            )
        self.values: Mapping[str, Any] = values

    def where(self) -> str:
        """Return "<file>, row <index>" (rows count from 0)."""
        return f"{self.file}, row {self.index}"

    def error(self, field: str, rule: str, value: Any) -> BenchmarkError:
        """Return the error for one field: where, rule, value received."""
        return BenchmarkError(f"{self.where()}: field '{field}' {rule}. Got {_short(value)}.")

    def text(self, field: str, *, empty: bool = False) -> str:
        """Return a field as text (numbers are converted); empty text only if allowed."""
        value = self.values.get(field)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(field, "must be text or a number", value)
        text = str(value).strip()
        if not text and not empty:
            raise self.error(field, "must not be empty", value)
        return text

    def first(self, *fields: str) -> str:
        """Return the first of `fields` that holds text, or "" where none does."""
        for field in fields:
            if isinstance(self.values.get(field), str | int):
                return str(self.values[field]).strip()
        return ""

    def choice(self, field: str, allowed: tuple[str, ...]) -> str:
        """Return a field whose value must be one of `allowed`."""
        value = self.values.get(field)
        if value not in allowed:
            raise self.error(field, f"must be one of {', '.join(allowed)}", value)
        return str(value)

    def texts(self, field: str) -> list[str]:
        """Return a list-of-text field; None and a missing field are the empty list."""
        value = self.values.get(field)
        if value is None:
            return []
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise self.error(field, "must be a list of texts", value)
        items = list(value)
        if not all(isinstance(item, str | int | float) for item in items):
            raise self.error(field, "must be a list of texts", value)
        return [str(item) for item in items]

    def seconds(self, field: str) -> float | None:
        """Return a time in seconds, or None where the field is missing or null."""
        value = self.values.get(field)
        if value is None or value == "":
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self.error(field, "must be a time in seconds", value) from None


def letter_in_range(row: Row, field: str, letter: str, num_options: int) -> str:
    """Return `letter` in upper case, after checking that it names one of the options."""
    upper = letter.strip().upper()
    allowed = "".join(chr(ord("A") + i) for i in range(num_options))
    if len(upper) != 1 or upper not in allowed:
        raise row.error(field, f"must be one letter of {allowed or 'no options'}", letter)
    return upper


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
