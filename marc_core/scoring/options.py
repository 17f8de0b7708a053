"""Kinds of answers, and the options of a multiple-choice question."""

from __future__ import annotations

import re
from typing import Literal, get_args

ProblemType = Literal["multiple choice", "numerical", "regression", "OCR", "free-form"]
"""Kinds of answers, with the names that Video-R1 uses."""

PROBLEM_TYPES: tuple[str, ...] = get_args(ProblemType)

_LETTERED = re.compile(r"^\s*\(?([A-Z])\s*[.):]\s*(.*)$", re.DOTALL)


def option_text(option: str) -> str:
    """Return an option without its letter: "B. a red cube" -> "a red cube"."""
    match = _LETTERED.match(option)
    return (match.group(2) if match else option).strip()


def with_letters(options: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return options as "A. text"; those that already carry their own letter stay as they are."""
    letters = [chr(ord("A") + i) for i in range(len(options))]
    labelled = [_LETTERED.match(o) for o in options]
    if options and all(m and m.group(1) == x for m, x in zip(labelled, letters, strict=True)):
        return tuple(o.strip() for o in options)
    return tuple(f"{x}. {o.strip()}" for x, o in zip(letters, options, strict=True))
