"""Questions about a video, with balanced letters and wrong options taken from the video itself.

    make_questions -> per type: stream QUESTIONS/number -> drafts -> choose by answer -> options

Every type draws from a stream of its own: a new type changes no other question, and no question
changes a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from marc_core.errors import ConfigError
from marc_core.world import ask_across, ask_static, ask_within
from marc_core.world.drafts import Draft, QuestionType
from marc_core.world.naming import Naming
from marc_core.world.phrases import LETTERS
from marc_core.world.streams import Purpose, Stream
from marc_core.world.types import Category, Question, Scope, WorldEvent, WorldVideo


def _types(
    category: Category, scope: Scope, first: int, module: object, *names: str
) -> list[QuestionType]:
    return [
        QuestionType(
            name=name,
            number=first + i,
            category=category,
            scope=scope,
            make=getattr(module, name),
            balance=name != "action",
        )
        for i, name in enumerate(names)
    ]


QUESTION_TYPES: Final[tuple[QuestionType, ...]] = (
    *_types(
        "static", "within-event", 1, ask_static,
        "colour", "shape", "count", "existence", "background",
    ),
    *_types(
        "temporal", "within-event", 20, ask_within,
        "action", "direction", "speed", "attribute_change", "how_long",
    ),
    *_types(
        "temporal", "across-events", 40, ask_across,
        "order", "after", "before", "which_event", "when",
    ),
)  # fmt: skip
"""Every type; numbers are part of the world, so append to a group and never reorder it."""


def make_questions(
    video: WorldVideo,
    *,
    seed: int,
    per_type: int = 1,
    open_share: float = 0.25,
    types: Sequence[str] = (),
    rivals: Sequence[WorldEvent] = (),
) -> tuple[Question, ...]:
    """Return up to `per_type` questions of every type, deterministic by video and seed.

    types: names of `QUESTION_TYPES`; empty means all. open_share: share asked without options
    where a type allows it. rivals: events of other videos, from which names must differ, too
    (questions to a whole archive). A type that the video cannot serve is left out.
    Raises ConfigError for an unknown type, a negative seed or an open_share outside 0 - 1.
    """
    known = {t.name: t for t in QUESTION_TYPES}
    if unknown := sorted(set(types) - set(known)):
        raise ConfigError(f"Question types must be among {', '.join(known)}. Got {unknown}.")
    if seed < 0:
        raise ConfigError(f"A question seed must not be negative. Got {seed}.")
    if not 0 <= open_share <= 1:
        raise ConfigError(f"open_share must be in 0 - 1. Got {open_share}.")
    naming = Naming(video=video, rivals=rivals)
    questions: list[Question] = []
    for kind in QUESTION_TYPES:
        if types and kind.name not in types:
            continue
        key = (video.config.salt, video.seed, seed, kind.number)
        stream = Stream(Purpose.QUESTIONS, *key)
        drafts = kind.make(naming, stream)
        chosen = _choose(stream, drafts, per_type, kind.balance)
        questions += [_finish(stream, kind, d, open_share) for d in chosen]
    return tuple(questions)


def _choose(stream: Stream, drafts: list[Draft], k: int, balance: bool) -> list[Draft]:
    """Return at most `k` drafts; with `balance` the answers take turns, whatever their number."""
    if not balance:
        return stream.sample(drafts, k)
    groups: dict[str, list[Draft]] = {}
    for draft in stream.shuffled(drafts):
        groups.setdefault(draft.right, []).append(draft)
    chosen: list[Draft] = []
    while len(chosen) < min(k, len(drafts)):
        for answer in stream.shuffled([a for a, group in groups.items() if group]):
            chosen.append(groups[answer].pop())
    return chosen[:k]


def _finish(stream: Stream, kind: QuestionType, draft: Draft, open_share: float) -> Question:
    """Return the question with its kind, and its options in random order."""
    can_be_open = draft.alternative != "multiple_choice"
    options: tuple[str, ...] = ()
    if can_be_open and stream.chance(open_share):
        answer, asked = draft.number or draft.right, draft.alternative
    else:
        options = tuple(stream.shuffled([draft.right, *stream.sample(draft.wrong, 3)]))
        answer, asked = LETTERS[options.index(draft.right)], "multiple_choice"
    return Question(
        type=kind.name,
        category=kind.category,
        scope=kind.scope,
        kind=asked,
        text=draft.text,
        options=options,
        answer=answer,
        answer_text=draft.right,
        evidence=draft.evidence,
        named=draft.named,
    )
