"""What the files beside a video say: captions, where and when it was recorded.

    files_beside -> read_sidecar -> Sidecar -> on_clock_of -> rows of `texts`
    (marc_core.video) bad files become            (which clock)
                    warnings

A bad file never costs its video. clip.json holds any of {"camera": "gate 3", "tags": ["night"],
"recorded_at": "2026-03-01T22:15:00+01:00", "synthetic": true}; marc_core/video/beside.py says which
files there are.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeGuard

from marc_core.errors import SourceError
from marc_core.recorded.zones import in_zone, zone_of
from marc_core.text.captions import Caption, decode_text, parse_captions
from marc_core.types import SidecarFile, VideoSource
from marc_core.video.beside import (
    CAPTION_ENDINGS,
    METADATA_ENDING,
    UNREAD_ENDINGS,
    language_of,
    texts_fingerprint,
)
from marc_core.video.source import no_file, read_small_files

MAX_BYTES = 16 << 20
"""Larger sidecar files are not read (our choice: captions of a day are below 4 MB)."""
WARNING_PREFIX = "sidecar "
"""How every warning about a sidecar begins, so that reading it again replaces only these."""
_FIRST_YEAR, _LAST_YEAR = 1800, 2200


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """All that the files beside a video say. Without such files: empty.

    synthetic: whether the archive says that the video is rendered, not filmed: nothing is said or
    written in it. warnings: what could not be read, and why. fingerprint: `texts_fingerprint` of
    the files that were fetched, well-formed or not.
    """

    captions: tuple[Caption, ...] = ()
    camera: str | None = None
    tags: tuple[str, ...] = ()
    recorded_at: dt.datetime | None = None
    synthetic: bool = False
    warnings: tuple[str, ...] = ()
    fingerprint: str = texts_fingerprint(())

    def on_clock_of(self, start_s: float, end_s: float) -> Sidecar:
        """Return this sidecar with its captions on the clock of a video from start_s to end_s.

        Players count captions from the first picture, so 0:00 is `start_s`. Only a file of which
        not one caption lies inside the video that way, but some do on the source's own clock, is
        taken to count on that. Captions outside the video are left out and said.
        """
        moved: list[Caption] = []
        warnings = list(self.warnings)
        for file in dict.fromkeys(c.file for c in self.captions):
            captions = [c for c in self.captions if c.file == file]
            shifted = [
                replace(c, start_s=c.start_s + start_s, end_s=c.end_s + start_s) for c in captions
            ]
            inside = [c for c in shifted if c.start_s < end_s]
            if not inside:
                inside = [c for c in captions if c.start_s < end_s and c.end_s > start_s]
            moved += inside
            if missed := len(captions) - len(inside):
                warnings.append(
                    f"{WARNING_PREFIX}{file}: {missed} of {len(captions)} captions lie outside the "
                    "video."
                )
        return replace(self, captions=_in_order(moved), warnings=tuple(warnings))

    def text_between(self, start_s: float, end_s: float) -> str | None:
        """Return the captions shown within [start_s, end_s), joined; None when there is none."""
        shown = [c.text for c in self.captions if c.start_s < end_s and c.end_s > start_s]
        return " ".join(shown) or None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for `from_json`."""
        return {
            "captions": [[c.start_s, c.end_s, c.text, c.language, c.file] for c in self.captions],
            "camera": self.camera,
            "tags": list(self.tags),
            "recorded_at": self.recorded_at.isoformat() if self.recorded_at else None,
            "synthetic": self.synthetic,
            "warnings": list(self.warnings),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sidecar:
        """Return the sidecar that `to_json` wrote."""
        recorded_at = data["recorded_at"]
        return cls(
            captions=tuple(
                Caption(start_s=s, end_s=e, text=t, language=language, file=file)
                for s, e, t, language, file in data["captions"]
            ),
            camera=data["camera"],
            tags=tuple(data["tags"]),
            recorded_at=dt.datetime.fromisoformat(recorded_at) if recorded_at else None,
            synthetic=data["synthetic"],
            warnings=tuple(data["warnings"]),
            fingerprint=data["fingerprint"],
        )


def read_sidecar(source: VideoSource, options: Mapping[str, str], zone: str = "") -> Sidecar:
    """Return what the files listed beside `source` say.

    zone: `clock.zone`, in which a `recorded_at` without an offset is read; empty refuses it.

    Never raises for a file: what cannot be read becomes a warning. A file that could not be fetched
    is left out of the fingerprint, so that the next run tries it again.
    """
    warnings: list[str] = []
    fetched: list[SidecarFile] = []
    captions: dict[str | None, tuple[Caption, ...]] = {}
    metadata: dict[str, Any] = {}
    for file in sorted(source.sidecars, key=_preference):
        name = file.uri.rpartition("/")[2]
        ending = os.path.splitext(name)[1].lower()
        stem = os.path.splitext(source.file_uri.rpartition("/")[2])[0]
        language = language_of(name, stem)
        problems: list[str] = []
        try:
            text, remark = _fetch(file, options, fetched)
            if ending == METADATA_ENDING:
                metadata, problems = parse_metadata(text, zone)
            elif ending in UNREAD_ENDINGS:
                problems = [f"is not read. Captions come from {', '.join(CAPTION_ENDINGS)} files."]
            elif language not in captions:
                captions[language], skipped = parse_captions(
                    text, ending, file=name, language=language
                )
                problems = skipped.sentences()
            problems += [remark] if remark else []
        except SourceError as error:
            problems = [str(error)]
        warnings += [f"{WARNING_PREFIX}{name}: {problem}" for problem in problems]
    return Sidecar(
        captions=_in_order([c for found in captions.values() for c in found]),
        warnings=tuple(warnings),
        fingerprint=texts_fingerprint(fetched),
        **metadata,
    )


def _preference(file: SidecarFile) -> tuple[int, str]:
    ending = os.path.splitext(file.uri)[1].lower()
    return (CAPTION_ENDINGS.index(ending) if ending in CAPTION_ENDINGS else -1, file.uri)


def _fetch(
    file: SidecarFile, options: Mapping[str, str], fetched: list[SidecarFile]
) -> tuple[str, str | None]:
    """Return a file's text, and what to tell of its encoding.

    It is added to `fetched` once its bytes are here, readable or not.
    """
    ending = os.path.splitext(file.uri)[1].lower()
    if ending in UNREAD_ENDINGS:
        fetched.append(file)
        return "", None
    if kind := no_file(file):
        fetched.append(file)
        raise SourceError(f"is {kind}, not a file, and is not read.")
    if file.size_bytes > MAX_BYTES:
        fetched.append(file)
        raise SourceError(
            f"is not read: it has {file.size_bytes:,} bytes, more than the {MAX_BYTES:,} that "
            "captions may have."
        )
    found = read_small_files([file.uri], options, MAX_BYTES)
    if file.uri not in found:
        raise SourceError("no longer exists. The next run looks again.")
    fetched.append(file)
    return decode_text(found[file.uri])


def _in_order(captions: Sequence[Caption]) -> tuple[Caption, ...]:
    return tuple(sorted(captions, key=lambda c: (c.start_s, c.end_s, c.language or "", c.file)))


def parse_metadata(text: str, zone: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return ({"camera": str, "tags": (str, ...), "recorded_at": datetime,
    "synthetic": bool}, what was wrong).

    Each key is there only if given and right. Raises SourceError for anything but a JSON object.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"must hold one JSON object: {error}.") from error
    if not isinstance(data, dict):
        raise SourceError(f"must hold one JSON object. Got {type(data).__name__}.")
    readers: dict[str, Callable[[Any], Any]] = {
        "camera": _camera,
        "tags": _tags,
        "recorded_at": partial(_recorded_at, zone=zone),
        "synthetic": _synthetic,
    }
    values, problems = {}, []
    for key in readers.keys() & data.keys():
        if data[key] is None:
            continue
        try:
            values[key] = readers[key](data[key])
        except ValueError as error:
            problems.append(f"{error} Got {_shown(data[key])}.")
    if unknown := sorted(data.keys() - readers.keys()):
        problems.append(f"keys are {', '.join(readers)}. Left out: {_shown(', '.join(unknown))}.")
    return values, sorted(problems)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether it is text that UTF-8 can hold: JSON may spell half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _camera(value: Any) -> str:
    if not _is_text(value):
        raise ValueError("camera must be text.")
    return value


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(_is_text(tag) for tag in value):
        raise ValueError("tags must be a list of texts.")
    return tuple(value)


def _synthetic(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("synthetic must be true or false.")
    return value


def _recorded_at(value: Any, zone: str = "") -> dt.datetime:
    rule = (
        "recorded_at must be an ISO 8601 time with its UTC offset, such as "
        f"2026-03-01T22:15:00+01:00, between the years {_FIRST_YEAR} and {_LAST_YEAR}."
    )
    try:
        moment = dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(rule) from None
    place = zone_of(zone)
    if moment.tzinfo is None and place is not None:
        try:
            moment = in_zone(moment, place)
        except ValueError as error:
            raise ValueError(f"recorded_at must be one moment: {error}.") from None
    if moment.tzinfo is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(rule)
    return moment
