"""What every stage that makes text of an indexed video has in common.

    events of a video ──Span──> TextStage.texts(path, spans) ──Said──> rows of `texts`

A stage looks at one file and says what it heard, read or described, each line with its own time on
the clock of `events.start_s`; which events a line belongs to is decided by `stage_rows`, the same
for all. Stages know nothing of memories and jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from marc_core.schemas import TextKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One line of text. start_s, end_s: on the video's own clock, that of `events.start_s`.

    confidence: 0 - 1, None where the model gives none. language: as the model names it, such as
    "en"; None where it does not say.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float | None = None
    language: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """An event as a stage sees it. frame_times_s: times of the frames that it shows, ascending."""

    event_id: str
    start_s: float
    end_s: float
    frame_times_s: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """What a stage found in a video.

    seconds: of media that it looked at: of sound for speech, of events for pictures. warnings:
    what a reader should know (one line each), beside the lines that were found all the same.
    """

    lines: tuple[Said, ...] = ()
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


class TextStage(Protocol):
    """What makes one kind of text; holds its model."""

    @property
    def kind(self) -> TextKind:
        """What its lines are: "speech", "writing" or "caption"."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of all that changes its lines: model files and settings."""
        ...

    def texts(
        self,
        path: str,
        spans: Sequence[Span],
        *,
        stream: int = 0,
        warnings: Sequence[str] = (),
    ) -> StageResult:
        """Return what is said, written or shown in a video stream of the file at `path`.

        spans: its events, in order of time. warnings: of its `videos` row, which say how its clock
        was repaired (`marc_core.video.clock.repaired_by`). A video without sound or writing gives
        no lines. Raises the VideoError of what is wrong with the file.
        """
        ...

    def close(self) -> None:
        """End the processes that it holds, if any."""
        ...
