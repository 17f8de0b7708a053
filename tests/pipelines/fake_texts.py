"""A text stage for tests: what it says stands in the file itself, a JSON list of lines.

A file that holds {"raise": KIND} makes it fail with a VideoError of that kind. `LOOKED` counts what
it was asked to look at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from marc_core.config import MethodConfig
from marc_core.errors import VideoError
from marc_core.text.stage import Said, Span, StageResult

LOOKED: list[str] = []


class Trouble(VideoError):
    """What is wrong with a file."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the file is {kind}")
        self.kind = kind


class FakeStage:
    """Says what the file says."""

    kind = "speech"

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def texts(
        self, path: str, spans: Sequence[Span], *, stream: int = 0, warnings: Sequence[str] = ()
    ) -> StageResult:
        LOOKED.append(Path(path).name)
        said = json.loads(Path(path).read_text())
        if isinstance(said, dict):
            raise Trouble(said["raise"])
        lines = tuple(Said(start_s=start, end_s=end, text=text) for start, end, text in said)
        return StageResult(lines=lines, seconds=spans[-1].end_s)

    def close(self) -> None:
        pass


def make_stage(config: MethodConfig) -> FakeStage:
    """Return a stage whose lines would change with the model's name."""
    return FakeStage(f"fake-{config.student.model}")
