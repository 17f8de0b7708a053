"""How found events and answers are shown to people: as text, and as HTML in a notebook.

Times count from the video's own 0:00. Whatever came from a file, a caption or a model is escaped:
markup, and the characters that steer a terminal or turn the order of what is read.
"""

from __future__ import annotations

import base64
import datetime as dt
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape as escape_markup
from typing import TYPE_CHECKING, Any, overload

from marc_core.recorded.zones import zone_of
from marc_core.times import clock as clock

if TYPE_CHECKING:
    from marc_core.answer import Answer
    from marc_core.archive import SearchHit, TextLine
    from marc_core.evidence import Citation

Thumbnails = Callable[[Sequence[str]], Mapping[str, bytes]]
"""JPEG files of events, by event id."""

_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Bidirectional classes of characters that change the order in which others are shown: with them
"exe.gpj" reads "jpg.exe". Right-to-left scripts need none of them."""

_RECORDED = ("recorded",)
"""Title of the column of wall clocks, where there is one."""
_CELL = "padding:4px 8px;vertical-align:top;text-align:left"


def visible(text: str) -> str:
    """Return text that came from outside with its control characters as escapes.

    Also line separators, characters that turn the order of reading, and bytes of a file's name that
    are no UTF-8. Line ends stay.
    """
    return "".join(c if c == "\n" or _is_shown(c) else _escaped(c) for c in text)


def _is_shown(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return False
    return unicodedata.bidirectional(character) not in _TURNING


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape(text: str) -> str:
    """Return text that came from outside as HTML."""
    return escape_markup(visible(text))


def video_name(uri: str) -> str:
    """Return the last component of an address."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def span(item: SearchHit | Citation) -> tuple[str, str]:
    """Return where an event begins and ends, from its video's 0:00."""
    return clock(item.start_s - item.video_start_s), clock(item.end_s - item.video_start_s)


def wall_clock(item: SearchHit | Citation, zone: str = "") -> str:
    """Return when an event began, with its offset from UTC; empty where nobody knows.

    zone: `clock.zone`, in which it is shown; empty is UTC.
    """
    moment = item.recorded_from
    if moment is None:
        return ""
    moment = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return moment.astimezone(zone_of(zone) or dt.UTC).isoformat(" ", "seconds")


def recorded_column(items: Iterable[SearchHit | Citation], zone: str = "") -> list[list[str]]:
    """Return the further cell of each row that shows wall clocks; no cells where none is known."""
    clocks = [wall_clock(item, zone) for item in items]
    return [[clock] if any(clocks) else [] for clock in clocks]


class Results(Sequence["SearchHit"]):
    """Events in order, as a sequence; a notebook shows them as a table with pictures.

    nothing: why there are none, in a sentence for people. note: what is to be known of them all.
    zone: in which wall clocks are shown.
    """

    def __init__(
        self,
        hits: Sequence[SearchHit],
        thumbnails: Thumbnails,
        nothing: str = "",
        zone: str = "",
    ) -> None:
        self.hits, self._thumbnails, self.nothing = tuple(hits), thumbnails, nothing
        self.note = ""
        self.zone = zone

    @overload
    def __getitem__(self, index: int) -> SearchHit: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> SearchHit | Results:
        if isinstance(index, slice):
            return Results(self.hits[index], self._thumbnails, zone=self.zone)
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        if not self:
            return f"0 events. {self.nothing}".rstrip()
        lines = [f"{len(self)} events"]
        for hit in self.hits:
            said = f"  {visible(hit.text)}" if not hit.matches and hit.text else ""
            lines.append(_line(hit, self.zone) + said)
            lines += [f"      {line_head(hit, line)} {visible(line.text)}" for line in hit.matches]
        return "\n".join([*lines, self.note] if self.note else lines)

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{escape(repr(self))}</p>"
        pictures = self._thumbnails([hit.event_id for hit in self.hits])
        clocks = recorded_column(self.hits, self.zone)
        rows = [
            [*_cells(hit, pictures), *clock, _Said(hit)]
            for hit, clock in zip(self.hits, clocks, strict=True)
        ]
        titles = _RECORDED[: len(clocks[0])]
        note = f"<p><small>{escape(self.note)}</small></p>" if self.note else ""
        return _table(["", "video", "from", "to", "score", *titles, "text"], rows) + note


class Reply:
    """An answer with the events that it rests on. `answer` has all of it; a notebook shows the
    text and a table with pictures. zone: in which wall clocks are shown."""

    def __init__(self, answer: Answer, thumbnails: Thumbnails, zone: str = "") -> None:
        self.answer, self._thumbnails, self.zone = answer, thumbnails, zone

    @property
    def text(self) -> str:
        """The first sample's text."""
        return self.answer.text

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of all samples."""
        return tuple(sample.text for sample in self.answer.samples)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The events that the student saw, in the order in which it saw them."""
        return self.answer.citations

    def __repr__(self) -> str:
        warned = [self.answer.warning] if self.answer.warning else []
        cited = [_line(cited, self.zone) for cited in self.citations]
        return "\n".join([*map(visible, self.texts), *cited, *warned])

    def _repr_html_(self) -> str:
        pictures = self._thumbnails([c.event_id for c in self.citations])
        said = "".join(f"<p><b>{escape(text)}</b></p>" for text in self.texts)
        clocks = recorded_column(self.citations, self.zone)
        rows = [
            [*_cells(cited, pictures), *clock]
            for cited, clock in zip(self.citations, clocks, strict=True)
        ]
        titles = _RECORDED[: max(map(len, clocks), default=0)]
        table = _table(["", "video", "from", "to", "score", *titles], rows)
        warned = f"<p>{escape(self.answer.warning)}</p>" if self.answer.warning else ""
        return f"{said}{table}<p><small>{escape(saving(self.answer))}</small></p>{warned}"


def saving(answer: Answer) -> str:
    """Return in one sentence what an answer read."""
    usage = answer.usage
    saved = 1 - usage.visual_tokens / max(usage.source_tokens, 1)
    return (
        f"{usage.visual_tokens} visual tokens instead of {usage.source_tokens} "
        f"({saved:.1%} saved), features {answer.features}, events {answer.retrieval}"
    )


def score_text(item: SearchHit | Citation) -> str:
    """Return the cosine; nothing for an event that nothing ranked, such as a neighbour of one.

    A cosine that means nothing is left out where the event's text was found, else it is said.
    """
    if item.cosine is None:
        return ""
    if getattr(item, "encoder_knows", True):
        return f"{item.cosine:.3f}"
    by_text = getattr(item, "text_score", None) is not None
    return "by text" if by_text else f"{item.cosine:.3f}, means nothing"


def line_head(hit: SearchHit, line: TextLine) -> str:
    """Return when a line of an event's text is said or shown, from the video's 0:00, and how."""
    return f"{clock(line.start_s - hit.video_start_s)} {line.kind}:"


def pieces(line: TextLine) -> list[tuple[str, bool]]:
    """Return a line's text in pieces, and whether each is a word of the search."""
    parts, here = [], 0
    for start, end in line.words:
        parts += [(line.text[here:start], False), (line.text[start:end], True)]
        here = end
    return [(text, is_word) for text, is_word in [*parts, (line.text[here:], False)] if text]


def _line(item: SearchHit | Citation, zone: str) -> str:
    start, end = span(item)
    parts = (visible(video_name(item.uri)), f"{start} - {end}", score_text(item))
    return "  ".join(["", *parts, wall_clock(item, zone)]).rstrip()


def _cells(item: SearchHit | Citation, pictures: Mapping[str, bytes]) -> list[Any]:
    start, end = span(item)
    picture = _Picture(pictures.get(item.event_id, b""))
    return [picture, video_name(item.uri), start, end, score_text(item)]


class _Said:
    """What is said in an event: the lines that a search has found, else all of it."""

    def __init__(self, hit: SearchHit) -> None:
        self.hit = hit

    def html(self) -> str:
        if not self.hit.matches:
            return escape(self.hit.text or "")
        return "<br>".join(
            f"{escape(line_head(self.hit, line))} "
            + "".join(f"<mark>{escape(t)}</mark>" if w else escape(t) for t, w in pieces(line))
            for line in self.hit.matches
        )


class _Picture:
    """A JPEG inside a table."""

    def __init__(self, jpeg: bytes) -> None:
        self.jpeg = jpeg

    def html(self) -> str:
        if not self.jpeg:
            return ""
        data = base64.b64encode(self.jpeg).decode("ascii")
        return f'<img src="data:image/jpeg;base64,{data}" style="max-width:160px" alt="">'


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        inner = value.html() if isinstance(value, _Picture | _Said) else escape(str(value))
        return f'<td style="{_CELL}">{inner}</td>'

    titles = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(cell(v) for v in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
