"""Optional files beside a video: what was said, where and when it was recorded.

For clip.mp4: clip.srt or clip.vtt (captions, on the video's own clock) and clip.json with any of
{"camera": "gate 3", "tags": ["night"], "recorded_at": "2026-03-01T22:15:00+01:00"}.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marc_core.errors import SourceError
from marc_core.video.source import read_small_files

MAX_BYTES = 16 << 20
"""Larger sidecar files are refused (our choice: captions of a day are below 4 MB)."""

_STAMP = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMING = re.compile(rf"^\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?$")
_MARKUP = re.compile(r"<[^>]*>|\{\\[^}]*\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A caption shown in [start_s, end_s)."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """All that the files beside a video say. Without such files: empty."""

    captions: tuple[Caption, ...] = ()
    camera: str | None = None
    tags: tuple[str, ...] = ()
    recorded_at: dt.datetime | None = None

    def text_between(self, start_s: float, end_s: float) -> str | None:
        """Return the captions shown within [start_s, end_s), joined; None when there is none."""
        shown = [c.text for c in self.captions if c.start_s < end_s and c.end_s > start_s]
        return " ".join(shown) or None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for `from_json`."""
        return {
            "captions": [[c.start_s, c.end_s, c.text] for c in self.captions],
            "camera": self.camera,
            "tags": list(self.tags),
            "recorded_at": self.recorded_at.isoformat() if self.recorded_at else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sidecar:
        """Return the sidecar that `to_json` wrote."""
        recorded_at = data["recorded_at"]
        return cls(
            captions=tuple(Caption(start_s=s, end_s=e, text=t) for s, e, t in data["captions"]),
            camera=data["camera"],
            tags=tuple(data["tags"]),
            recorded_at=dt.datetime.fromisoformat(recorded_at) if recorded_at else None,
        )


def read_sidecar(uri: str, options: Mapping[str, str]) -> Sidecar:
    """Return what the files beside the video `uri` say.

    Where both .srt and .vtt exist, .srt is taken. Raises SourceError for files that cannot be
    read or break their format; the message names file, rule and value.
    """
    stem = os.path.splitext(uri)[0]
    names = [f"{stem}{ending}" for ending in (".json", ".srt", ".vtt")]
    found = read_small_files(names, options, MAX_BYTES)
    metadata = parse_metadata(_text(found, names[0]), names[0]) if names[0] in found else {}
    captions: tuple[Caption, ...] = ()
    for name in names[1:]:
        if name in found:
            captions = parse_captions(_text(found, name), name)
            break
    return Sidecar(captions=captions, **metadata)


def _text(found: Mapping[str, bytes], name: str) -> str:
    try:
        return found[name].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"'{name}' must be UTF-8 text (byte {error.start}). Convert it."
        ) from None


def parse_captions(text: str, name: str) -> tuple[Caption, ...]:
    """Return the captions of SubRip or WebVTT text, by start time, markup removed.

    Raises SourceError for a timing line that cannot be read or ends before it starts.
    """
    captions = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if "-->" not in line:
            continue
        start_s, end_s = _timing(line, f"'{name}', line {number}")
        words = []
        for spoken in lines[number:]:
            if not spoken.strip() or "-->" in spoken:
                break
            words.append(_MARKUP.sub("", spoken).strip())
        said = " ".join(w for w in words if w)
        if said:
            captions.append(Caption(start_s=start_s, end_s=end_s, text=said))
    return tuple(sorted(captions, key=lambda c: (c.start_s, c.end_s)))


def _timing(line: str, where: str) -> tuple[float, float]:
    match = _TIMING.match(line)
    if match is None:
        raise SourceError(f"{where}: a timing reads 00:01:02,500 --> 00:01:04,000. Got '{line}'.")
    start_s, end_s = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if end_s < start_s:
        raise SourceError(f"{where}: a caption must not end before it starts. Got '{line}'.")
    return start_s, end_s


def _seconds(stamp: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in stamp)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def parse_metadata(text: str, name: str) -> dict[str, Any]:
    """Return {"camera": str, "tags": (str, ...), "recorded_at": datetime}, each only if given.

    Raises SourceError for anything but a JSON object of these keys and types.
    """
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SourceError(f"'{name}' must hold one JSON object: {error}.") from error
    if not isinstance(data, dict):
        raise SourceError(f"'{name}' must hold one JSON object. Got {type(data).__name__}.")
    readers = {"camera": _camera, "tags": _tags, "recorded_at": _recorded_at}
    for key in data:
        if key not in readers:
            raise SourceError(
                f"'{name}': keys are {', '.join(readers)}. Got '{key}'. If the file belongs to "
                "another tool, move it away from the video."
            )
    return {key: readers[key](value, name) for key, value in data.items() if value is not None}


def _camera(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise SourceError(f"'{name}': camera must be text. Got {value!r}.")
    return value


def _tags(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise SourceError(f"'{name}': tags must be a list of texts. Got {value!r}.")
    return tuple(value)


def _recorded_at(value: Any, name: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SourceError(
            f"'{name}': recorded_at must be an ISO 8601 time with its UTC offset, such as "
            f"2026-03-01T22:15:00+01:00. Got {value!r}."
        )
    return moment
