"""How far live sources are, what waits to be indexed, and who wants to hear of it."""

from __future__ import annotations

import datetime as dt
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.live_workers import Job


@dataclass(kw_only=True, slots=True)
class SourceState:
    """How far a source is."""

    state: str = "starting"
    reason: str = ""
    segments: int = 0
    indexed: int = 0
    failed: int = 0
    events: int = 0
    gaps: int = 0
    searchable_until: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Searchable:
    """A video that is searchable now. until: its end on the wall clock, None where not known.

    delay_s: from its end, by this machine's clock, until readers may find it.
    """

    source: str
    uri: str
    events: int
    until: dt.datetime | None
    delay_s: float | None


@dataclass(kw_only=True)
class Hooks:
    """What a caller wants to hear of. say: a line for people."""

    say: Callable[[str], None] = lambda _: None
    searchable: Callable[[Searchable], None] = lambda _: None


class Waiting:
    """Jobs that wait: what cameras send goes first, because files of folders can wait."""

    def __init__(self) -> None:
        self.live: deque[Job] = deque()
        self.files: deque[Job] = deque()
        self.later: list[tuple[float, Job]] = []

    def add(self, job: Job) -> None:
        (self.live if job.is_live else self.files).append(job)

    def next(self, *, also_files: bool) -> Job | None:
        """Take the next job, those that are due again among them."""
        now_s = time.monotonic()
        for due in [one for one in self.later if one[0] <= now_s]:
            self.later.remove(due)
            self.add(due[1])
        if self.live:
            return self.live.popleft()
        return self.files.popleft() if self.files and also_files else None

    def __len__(self) -> int:
        return len(self.live) + len(self.files) + len(self.later)
