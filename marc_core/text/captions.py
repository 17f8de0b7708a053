"""Caption files: bytes to words with times, whatever the encoding, markup taken off.

pysubs2 reads the formats. Three things it reads wrongly are met before it sees the text: a minus
before a time (it drops the sign), WebVTT's comments, styles and names of cues (it adds them to the
caption before), and times that it cannot read (it adds the cue to the one before).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from marc_core.errors import SourceError
from marc_core.times import counted

_STAMP = r"(-?)\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMING = re.compile(rf"^{_STAMP}\s*-->\s*{_STAMP}(?=\s|$)")
_LIKE_A_TIMING = re.compile(r"^-?\s*[\d.,]*\d:[\d:.,-]*\s*-+>")
_MOST_TIMING = 200
"""Characters of a line that are looked at for a timing: no line may cost more than its length."""
_VTT_BLOCK = re.compile(r"(WEBVTT|NOTE|STYLE|REGION)(\s|$)")
_MOST_HOURS = 99
_REPLACED = "\ufffd"
_GUESS = "its encoding is a guess ({}). Save it as UTF-8 to be sure."
_ASS_COLUMNS = (
    "layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text",
)  # fmt: skip
"""Columns of an event in Advanced SubStation Alpha; SubStation Alpha has `marked` for the first."""
"""pysubs2 reads two digits of hours in SubRip files."""
_TAG = re.compile(
    r"</?(?:b|c|font|i|lang|rt|ruby|s|u|v)(?:[\s.][^>]{0,500})?>|<[\d:.]{1,40}>|\{\\[^}]{0,500}\}",
    re.IGNORECASE,
)
"""What SubRip and WebVTT define: <laughs> is words."""
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&#?\w+;")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A caption shown in [start_s, end_s). language: as the name of its `file` says, or None."""

    start_s: float
    end_s: float
    text: str
    language: str | None = None
    file: str = ""


@dataclass(kw_only=True, slots=True)
class Skipped:
    """Cues of a file that are not read, by reason."""

    reasons: dict[str, int] = field(default_factory=dict)

    def count(self, reason: str) -> None:
        """Count one more cue that was skipped for `reason`."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def sentences(self) -> list[str]:
        """Return what to tell the user, one sentence a reason."""
        return [f"{counted(n, 'caption')} skipped: {reason}." for reason, n in self.reasons.items()]


def decode_text(data: bytes) -> tuple[str, str | None]:
    """Return the text of a file, and what to tell of its encoding where that is not sure.

    UTF-8, UTF-16 or UTF-32, UTF-8 with some spoilt bytes, or a guess among older encodings. Where
    a guess does not decide, Western European (cp1252) is taken. Raises SourceError for bytes that
    are no text in any encoding.
    """
    try:
        text = data.decode("utf-8-sig")
        if "\x00" not in text:
            return text, None
    except UnicodeDecodeError:
        text = data.decode("utf-8-sig", errors="replace")
        spoilt = text.count(_REPLACED)
        if spoilt <= sum(c > "\x7f" and c != _REPLACED for c in text) and "\x00" not in text:
            return text, f"{spoilt} bytes are no UTF-8 and are shown as {_REPLACED}."
    return _guessed(data)


def _guessed(data: bytes) -> tuple[str, str | None]:
    """Return the text in the likeliest of the older encodings, and its name for people."""
    from charset_normalizer import from_bytes

    matches = list(from_bytes(data))
    if not matches:
        raise SourceError("is no text in any known encoding. Save it as UTF-8.")
    best = matches[0]
    tied = [m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    if any("cp1252" in (m.encoding, *m.could_be_from_charset) for m in tied):
        return data.decode("cp1252"), _GUESS.format("cp1252")
    text = str(best).removeprefix("\ufeff")
    return text, None if best.encoding.startswith("utf") else _GUESS.format(best.encoding)


def parse_captions(
    text: str, ending: str, *, file: str = "", language: str | None = None
) -> tuple[tuple[Caption, ...], Skipped]:
    """Return the captions of a file by start time, and what was skipped of it.

    ending: .srt, .vtt, .ass or .ssa. Raises SourceError for a file that holds no caption at all,
    or that its reader refuses.
    """
    import pysubs2

    skipped = Skipped()
    is_ass = ending in (".ass", ".ssa")
    if is_ass:
        text = _usual_columns(text)
    try:
        if is_ass:
            kind = "ass" if "v4+ styles" in text.lower() else "ssa"
            cues = pysubs2.SSAFile.from_string(text, format_=kind)
        else:
            lines = _readable_lines(text.splitlines(), skipped, is_vtt=ending == ".vtt")
            cues = pysubs2.SSAFile.from_string("\n".join(lines), "srt", keep_html_tags=True)
    except (ValueError, KeyError, IndexError, TypeError, pysubs2.Pysubs2Error) as error:
        raise SourceError(f"cannot be read as {ending[1:]}: {error}.") from error
    captions = []
    for cue in cues:
        if not cue.is_text:
            continue  # drawings and comments of .ass
        said = _words(cue.plaintext if is_ass else cue.text.replace("\\N", "\n"))
        start_s, end_s = cue.start / 1000, cue.end / 1000
        if start_s < 0 or end_s < 0:
            skipped.count("their times are negative")
        elif end_s < start_s:
            skipped.count("they end before they start")
        elif said:
            captions.append(
                Caption(start_s=start_s, end_s=end_s, text=said, language=language, file=file)
            )
    is_empty = not text.strip() or text.lstrip("\ufeff \n").startswith("WEBVTT")
    if not len(cues) and not skipped.reasons and not is_empty:
        raise SourceError(f"holds no caption that can be read as {ending[1:]}.")
    return tuple(sorted(captions, key=lambda c: (c.start_s, c.end_s))), skipped


def _usual_columns(text: str) -> str:
    """Return SubStation's text with its events' columns in the usual order.

    A file may name other columns in `Format:`; pysubs2 reads by position. Raises SourceError where
    start, end or text is missing.
    """
    lines, columns, usual, in_events = [], None, list(_ASS_COLUMNS), False
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(":")
        if line.lstrip().startswith("["):
            in_events = line.strip().lower() == "[events]"
        elif in_events and kind.lower() == "format":
            columns = [name.strip().lower() for name in rest.split(",")]
            usual[0] = "marked" if "marked" in columns else "layer"
            if missing := {"start", "end", "text"} - set(columns):
                raise SourceError(f"has events without {', '.join(sorted(missing))}.")
        elif in_events and columns not in (None, usual) and kind in ("Dialogue", "Comment"):
            assert columns is not None
            cells = dict(zip(columns, rest.split(",", len(columns) - 1), strict=False))
            line = f"{kind}: " + ",".join(
                cells.get(name, "0").strip() if name != "text" else cells.get(name, "")
                for name in usual
            )
        lines.append(line)
    return "\n".join(lines)


def _readable_lines(lines: list[str], skipped: Skipped, *, is_vtt: bool) -> Iterator[str]:
    """Yield the lines of SubRip or WebVTT that pysubs2 reads rightly; count the cues left out."""
    taken, blank_before = True, True
    for number, line in enumerate(lines):
        timing = _TIMING.match(_head(line))
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if timing or _LIKE_A_TIMING.match(_head(line)):
            canonical = _canonical(timing, skipped)
            taken = canonical is not None
            if canonical is not None:
                yield "\n" + canonical
        elif is_vtt and blank_before and _VTT_BLOCK.match(line):
            taken = False
        elif (
            blank_before and _TIMING.match(_head(following)) and (is_vtt or line.strip().isdigit())
        ):
            pass  # the name or number of the next cue
        elif taken:
            yield line
        blank_before = not line.strip()


def _head(line: str) -> str:
    return line.lstrip()[:_MOST_TIMING]


def _canonical(timing: re.Match[str] | None, skipped: Skipped) -> str | None:
    """Return the timing line as pysubs2 wants it, or count why the cue is left out."""
    if timing is None:
        skipped.count("their times cannot be read (00:01:02,500 --> 00:01:04,000 can)")
        return None
    stamps = timing.groups()[:5], timing.groups()[5:]
    if any(sign for sign, *_ in stamps):
        skipped.count("their times are negative")
        return None
    if any(int(hours or 0) > _MOST_HOURS for _, hours, *_ in stamps):
        skipped.count(f"they are later than {_MOST_HOURS} hours")
        return None
    return " --> ".join(
        f"{int(h or 0):02d}:{m}:{s},{(f or '0').ljust(3, '0')}" for _, h, m, s, f in stamps
    )


def _words(text: str) -> str:
    """Return what is said: no markup, entities decoded, no control characters, one line."""
    bare = _TAG.sub("", _LINE_BREAK.sub(" ", text))
    bare = _ENTITY.sub(lambda entity: html.unescape(entity.group()), bare)
    kept = (c if unicodedata.category(c) != "Cc" else " " for c in bare)
    return " ".join("".join(kept).split())
