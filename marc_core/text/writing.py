"""What is written in the picture: signs, titles, screens, number plates.

    events --stretches--> IsolatedDecoder.pictures --OcrReader--> lines of each picture
           (one or two     (a keyframe where there   `merged` over an event --> Said
            an event)       is one, large enough)

A picture stands for its stretch of the event, and a line has the time of the stretches in which it
was seen: what is written is looked for in a picture or two, not followed from frame to frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from marc_core.config import MethodConfig, TextConfig, VideoConfig, fingerprint
from marc_core.digest import content_digest
from marc_core.text.ocr import OcrReader, Written, model_files
from marc_core.text.stage import Said, Span, StageResult
from marc_core.video.clock import repaired_by
from marc_core.video.isolated import IsolatedDecoder
from marc_core.video.pictures import Stretch

if TYPE_CHECKING:
    from marc_core.schemas import TextKind

_ONE_PICTURE_S = 5.0
"""Events up to this long have one picture, longer ones `text.writing_pictures` (our choice: titles
stay for 3 to 6 s)."""
_SAME_RATIO = 80
"""Percent of characters that two readings of one line share (our choice: one letter of five may be
read wrongly; numbers must be the same, so that gates 12 and 13 are two)."""
_VERSION = 1
"""Counts the changes of what the same settings read."""


def make_stage(config: MethodConfig) -> WritingStage:
    """Return the stage. Raises ImportError without `rapidocr`; loads no model."""
    return WritingStage(config.video, config.text)


class WritingStage:
    """Reads what is written in a video's pictures; holds a decoding child and the OCR models."""

    kind: TextKind = "writing"

    def __init__(self, video: VideoConfig, text: TextConfig) -> None:
        files = model_files()
        self._text = text
        self._reader: OcrReader | None = None
        self._decoder = IsolatedDecoder(
            replace(video, frame_max_pixels=text.writing_max_pixels, backend="pyav")
        )
        self.fingerprint = fingerprint(
            _VERSION,
            [content_digest(path) for path in files.values()],
            text.writing_side_px,
            text.writing_max_pixels,
            text.writing_pictures,
            text.writing_min_confidence,
        )

    def texts(
        self,
        path: str,
        spans: Sequence[Span],
        *,
        stream: int = 0,
        warnings: Sequence[str] = (),
    ) -> StageResult:
        """Return the lines of every event (`TextStage.texts`)."""
        if self._reader is None:
            self._reader = OcrReader(
                side_px=self._text.writing_side_px,
                min_confidence=self._text.writing_min_confidence,
            )
        owners, stretches = [], []
        for number, span in enumerate(spans):
            mine = stretches_of(span, self._text.writing_pictures)
            owners += [number] * len(mine)
            stretches += mine
        seen: dict[int, list[Seen]] = {}
        repaired = repaired_by(warnings)
        pictures = self._decoder.pictures(path, stretches, stream=stream, repaired=repaired)
        for i, time_s, picture_HWC in pictures:
            stretch = stretches[i]
            lines = self._reader.read(picture_HWC)
            seen.setdefault(owners[i], []).append(Seen(stretch, time_s, tuple(lines)))
        return StageResult(
            lines=tuple(line for number in sorted(seen) for line in merged(seen[number])),
            seconds=sum(span.end_s - span.start_s for span in spans),
        )

    def close(self) -> None:
        """End the decoding child."""
        self._decoder.close()


@dataclass(frozen=True, slots=True)
class Seen:
    """What is written in the picture at `time_s`, which stands for `stretch`."""

    stretch: Stretch
    time_s: float
    lines: tuple[Written, ...]


def stretches_of(span: Span, most: int) -> list[Stretch]:
    """Return up to `most` stretches that tile an event, each with a frame from its middle.

    Events of up to five seconds are one stretch. Each holds at least one of `frame_times_s`.
    """
    times_s = np.asarray(span.frame_times_s, np.float64)
    wanted = most if span.end_s - span.start_s > _ONE_PICTURE_S else 1
    groups = np.array_split(times_s, min(wanted, len(times_s)))
    borders = [(a[-1] + b[0]) / 2 for a, b in pairwise(groups)]
    edges = [span.start_s, *map(float, borders), span.end_s]
    return [
        Stretch(start_s, end_s, float(group[len(group) // 2]))
        for (start_s, end_s), group in zip(pairwise(edges), groups, strict=True)
    ]


def merged(seen: Iterable[Seen]) -> list[Said]:
    """Return the lines of an event's pictures, each once, in the order in which they are met.

    Readings that differ a little are one line: the surest is kept, over all stretches that show it.
    """
    found: list[Said] = []
    for look in sorted(seen, key=lambda look: look.time_s):
        for line in look.lines:
            said = Said(
                start_s=look.stretch.start_s,
                end_s=look.stretch.end_s,
                text=line.text,
                confidence=line.confidence,
            )
            same = next((i for i, other in enumerate(found) if _same(other.text, said.text)), None)
            if same is None:
                found.append(said)
                continue
            best = max(found[same], said, key=lambda s: s.confidence or 0.0)
            found[same] = replace(
                best,
                start_s=min(found[same].start_s, said.start_s),
                end_s=max(found[same].end_s, said.end_s),
            )
    return found


def _same(one: str, other: str) -> bool:
    from rapidfuzz import fuzz

    one, other = ("".join(filter(str.isalnum, text.casefold())) for text in (one, other))
    if [c for c in one if c.isdigit()] != [c for c in other if c.isdigit()]:
        return False
    return fuzz.ratio(one, other) >= _SAME_RATIO
