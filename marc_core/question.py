"""What a request may say: plain values that travel as JSON between processes.

Everything that asks, asks with these: the command line, notebooks, evaluation, training's rollouts
and serving. What a deployment fixes (models, limits, addresses) stands in `marc_core.config`.
Each checks its own values and raises AnswerError for what cannot be meant; ceilings are those of
a deployment.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from marc_core import checks
from marc_core.errors import AnswerError
from marc_core.schemas import TextKind

_SHOWN = {
    "recorded_from": "recorded_from (--since)", "recorded_to": "recorded_to (--until)",
    "start_s": "start_s (--from)", "end_s": "end_s (--to)",
}  # fmt: skip
"""Fields that have other names on the command line."""


def _check(request: Any, check: Callable[..., Any], *names: str, **rule: Any) -> None:
    """Check these fields of a frozen request, where they are not None, and make them plain."""
    for name in names:
        value = getattr(request, name)
        if value is not None or "least" in rule:
            object.__setattr__(request, name, check(_SHOWN.get(name, name), value, **rule))


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFilter:
    """Which events may be found. None, or no tags: no condition.

    video_ids: events of these videos only; an empty tuple matches nothing.
    folder: the video's uri lies in this folder or below it.
    camera: exact name. tags: all of them must be there.
    recorded_from, recorded_to: the event's own wall clock overlaps [from, to); both with a UTC
        offset. Events without a wall clock never match.
    start_s, end_s: the event overlaps [start_s, end_s), counted from the video's own 0:00.
    kinds: the event has text of one of these kinds, and words are searched in these alone.
    """

    video_ids: tuple[str, ...] | None = None
    folder: str | None = None
    camera: str | None = None
    tags: tuple[str, ...] = ()
    recorded_from: dt.datetime | None = None
    recorded_to: dt.datetime | None = None
    start_s: float | None = None
    end_s: float | None = None
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, checks.texts, "video_ids", "tags", "kinds")
        _check(self, checks.text, "folder", "camera")
        _check(self, checks.moment, "recorded_from", "recorded_to")
        _check(self, checks.finite, "start_s", "end_s")
        self._check_order("recorded_from", "recorded_to")
        self._check_order("start_s", "end_s")
        for kind in self.kinds:
            if kind not in get_args(TextKind):
                raise AnswerError(
                    f"kinds (--kind) must be among {', '.join(get_args(TextKind))}. Got '{kind}'."
                )

    def _check_order(self, first: str, last: str) -> None:
        begin, end = getattr(self, first), getattr(self, last)
        if begin is not None and end is not None and begin > end:
            raise AnswerError(
                f"{_SHOWN[first]} must not lie after {_SHOWN[last]}, else no event can pass. Got "
                f"{begin} and {end}."
            )

    @property
    def names_only_videos(self) -> bool:
        """Whether nothing but `video_ids` narrows the search."""
        return dataclasses.replace(self, video_ids=None) == EventFilter()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How an answer is drawn from the student.

    temperature: 0 is greedy; None takes `student.temperature`. max_tokens: generated at most; None
    takes `student.max_new_tokens`. seed: makes sampling repeatable; None draws afresh. stop: texts
    that end an answer and are not part of it. n: answers to draw, all from the same evidence.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1

    def __post_init__(self) -> None:
        _check(self, checks.finite, "temperature")
        _check(self, checks.whole, "max_tokens", "n")
        _check(self, checks.texts, "stop")
        if self.seed is not None and checks.whole("seed", self.seed) >= 2**63:
            raise AnswerError(f"seed must be a whole number from 0 to 2^63 - 1. Got {self.seed}.")
        if self.seed is not None:
            _check(self, checks.whole, "seed", least=0, most=" to 2^63 - 1")
        for name, least in (("temperature", 0), ("max_tokens", 1), ("n", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise AnswerError(f"{name} of a question must be {least} or more. Got {value}.")

    def or_defaults(self, *, temperature: float, max_tokens: int) -> Sampling:
        """Return the sampling with the deployment's values where the request gives none."""
        return dataclasses.replace(
            self,
            temperature=temperature if self.temperature is None else self.temperature,
            max_tokens=max_tokens if self.max_tokens is None else self.max_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """An earlier turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str

    def __post_init__(self) -> None:
        if self.role not in ("user", "assistant"):
            raise AnswerError(f"A turn's role must be user or assistant. Got {self.role!r}.")
        checks.words("text", self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """All that a request for an answer may say.

    text: the question. history: earlier turns, oldest first. options: of a multiple-choice
    question, in order A, B, .... filter: which events may be used. k: events to retrieve; None
    takes `retrieve.k`. budget_tokens: visual tokens at most; None takes `compress.budget_tokens`.
    """

    text: str
    history: tuple[Turn, ...] = ()
    options: tuple[str, ...] = ()
    filter: EventFilter = field(default_factory=EventFilter)
    k: int | None = None
    budget_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        checks.words("text", self.text)
        checks.instance("filter", self.filter, EventFilter)
        checks.instance("sampling", self.sampling, Sampling)
        _check(self, checks.every, "history", kind=Turn, kinds="turns")
        _check(self, checks.texts, "options")
        _check(self, checks.whole, "k", "budget_tokens")

    @property
    def search_text(self) -> str:
        """The text that is embedded to find events.

        The earlier questions of the conversation and this one, because a follow-up ("and what
        colour is it?") rarely names its subject again; answers are left out, since a wrong one
        would lead the search astray (our choice).
        """
        asked = [turn.text for turn in self.history if turn.role == "user"]
        return "\n".join([*asked, self.text])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for `from_json`."""
        return dict(_plain(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Question:
        """Return the question that `to_json` wrote."""
        values = checks.fields("question", data, cls)
        turns = checks.every("history", values.get("history", ()), object, "turns")
        values["history"] = tuple(Turn(**checks.fields("turn", turn, Turn)) for turn in turns)
        values["filter"] = filter_from_json(values.get("filter", {}))
        sampling = checks.fields("sampling", values.get("sampling", {}), Sampling)
        return cls(**values | {"sampling": Sampling(**sampling)})


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchQuery:
    """A search for events: by text, by an example image, or by an event ("more like this").

    Exactly one of text, image (the bytes of a JPEG, PNG or WebP file) and event_id is given.
    limit, offset: the page of the ranking to return. paged: whether pages of other sizes must show
    the same ranking; one that nobody turns the pages of is found in one pass.
    """

    text: str | None = None
    image: bytes | None = None
    event_id: str | None = None
    filter: EventFilter = field(default_factory=EventFilter)
    limit: int = 10
    offset: int = 0
    paged: bool = True

    def __post_init__(self) -> None:
        _check(self, checks.words, "text")
        _check(self, checks.text, "event_id")
        if self.image is not None and not isinstance(self.image, bytes):
            shown = repr(self.image)[:80]
            raise AnswerError(f"image must be the bytes of an image file. Got {shown}.")
        checks.instance("filter", self.filter, EventFilter)
        _check(self, checks.whole, "limit", least=1)
        _check(self, checks.whole, "offset", least=0)
        checks.instance("paged", self.paged, bool)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for `from_json`; an image as base64."""
        return dict(_plain(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchQuery:
        """Return the query that `to_json` wrote."""
        values = checks.fields("search", data, cls)
        values["filter"] = filter_from_json(values.get("filter", {}))
        if values.get("image") is not None:
            try:
                values["image"] = base64.b64decode(
                    checks.text("image", values["image"]), validate=True
                )
            except binascii.Error as error:
                raise AnswerError(f"image must be base64 text: {error}.") from error
        return cls(**values)


def filter_from_json(data: Mapping[str, Any]) -> EventFilter:
    """Return the EventFilter of plain JSON values."""
    values = checks.fields("filter", data, EventFilter)
    for name in ("recorded_from", "recorded_to"):
        if isinstance(values.get(name), str):
            try:
                values[name] = dt.datetime.fromisoformat(values[name])
            except ValueError:
                continue  # the filter itself says what it must be
    return EventFilter(**values)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value
