"""Which files lie beside a video and belong to it, by their names alone.

For clip.mp4, in the same folder, upper or lower case in the ending:

    clip.json                            camera, tags, recorded_at
    clip.srt .vtt .ass .ssa              captions
    clip.en.srt, clip.pt-BR.sdh.vtt      captions in a language; forced, sdh, cc, hi, default are
                                         remarks of players and mean nothing here
    clip.sub .ttml .dfxp .smi .sbv ...   captions that are not read: said, not ignored

A file belongs to the videos with the longest name that fits: clip.en.srt to clip.en.mp4 where there
is one, else to clip.mp4.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from marc_core.config import fingerprint
from marc_core.types import SidecarFile

METADATA_ENDING = ".json"
CAPTION_ENDINGS = (".srt", ".vtt", ".ass", ".ssa")
"""Formats that are read; where a language has several files, the first of these is taken."""
UNREAD_ENDINGS = (".sub", ".ttml", ".dfxp", ".smi", ".sami", ".sbv", ".lrc", ".stl", ".sup")
"""Captions that are not read: images, frame numbers, or formats without a reliable reader."""
_ENDINGS = (METADATA_ENDING, *CAPTION_ENDINGS, *UNREAD_ENDINGS)

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_REMARKS = frozenset({"forced", "sdh", "cc", "hi", "default"})
_READING = 1
"""Raised when the rules of reading change, so that every sidecar is read again."""


def files_beside(names: Iterable[str], videos: Iterable[str]) -> dict[str, list[str]]:
    """Return which of `names` belong to each of `videos`, all of one folder and without it.

    Videos that have none are absent. Sorted by name.
    """
    by_stem: dict[str, list[str]] = {}
    names = [name for name in names if name.lower().endswith(_ENDINGS)]
    for video in videos if names else ():
        by_stem.setdefault(os.path.splitext(video)[0], []).append(video)
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        for video in by_stem.get(_owner(name, by_stem) or "", ()):
            found.setdefault(video, []).append(name)
    return found


def _owner(name: str, stems: Iterable[str]) -> str | None:
    stem, ending = os.path.splitext(name)
    ending = ending.lower()
    if ending not in _ENDINGS:
        return None
    for _ in range(3):  # without remarks, then with a language and a remark at most
        if stem in stems:
            return stem
        stem, tag = os.path.splitext(stem)
        if ending == METADATA_ENDING or not _is_tag(tag[1:]):
            return None
    return None


def _is_tag(tag: str) -> bool:
    return tag.lower() in _REMARKS or _LANGUAGE.fullmatch(tag) is not None


def usual_names(path: str) -> list[str]:
    """Return the paths to look at beside one video where listing its folder costs too much.

    No languages: those are known from a listing only.
    """
    stem, endings = os.path.splitext(path)[0], (METADATA_ENDING, *CAPTION_ENDINGS)
    return [f"{stem}{ending}" for lower in endings for ending in (lower, lower.upper())]


def language_of(name: str, stem: str) -> str | None:
    """Return the language that the name of captions says, as written (en, pt-BR), or None."""
    tags = os.path.splitext(name)[0][len(stem) :].split(".")
    languages = [t for t in tags if _LANGUAGE.fullmatch(t) and t.lower() not in _REMARKS]
    return languages[0].replace("_", "-") if languages else None


def texts_fingerprint(files: Iterable[SidecarFile]) -> str:
    """Return 12 hex digits that change when a file is added, removed or changed.

    From names, sizes and times of change: nothing is read.
    """
    files = list(files)
    return _digest(files) if files else _NONE


def _digest(files: Iterable[SidecarFile]) -> str:
    return fingerprint(_READING, sorted((f.uri.rpartition("/")[2], *f[1:]) for f in files))


_NONE = _digest(())
"""Of a video without files beside it, as most are."""
