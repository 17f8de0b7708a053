"""What a question type hands over before options are mixed: the right answer and wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from marc_core.world.naming import Naming
from marc_core.world.phrases import ASK
from marc_core.world.streams import Stream
from marc_core.world.types import Category, QuestionKind, Scope


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A question before its kind and its options' order are drawn.

    wrong: options to choose from; those taken are random, all equally likely.
    alternative: "open" or "numerical" when it may be asked without options, too.
    """

    text: str
    right: str
    wrong: Sequence[str]
    evidence: tuple[int, ...]
    named: tuple[int, ...]
    alternative: QuestionKind = "multiple_choice"
    number: str | None = None


Maker = Callable[[Naming, Stream], list[Draft]]


@dataclass(frozen=True, kw_only=True)
class QuestionType:
    """A type of question. `number` seeds its stream: part of the world, never reused.

    balance: choose among a video's drafts by answer first, so that common answers do not rule.
    """

    name: str
    number: int
    category: Category
    scope: Scope
    make: Maker
    balance: bool = True


def ask(stream: Stream, key: str, **names: str) -> str:
    """Return one of the phrasings of `key`, filled in."""
    return stream.choice(ASK[key]).format(**names)
