"""What an indexing run did, as the memory says it after the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from marc_core import schemas
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What an indexing run did. `video_hours` counts the videos indexed by this run."""

    found: int
    skipped: int
    indexed: int
    failed: int
    quarantined: int
    failures: dict[str, int] = field(default_factory=dict)
    events: int = 0
    video_hours: float = 0.0
    wall_s: float = 0.0
    tokens_stored: int = 0

    @property
    def hours_per_hour(self) -> float:
        """Hours of video indexed per hour of wall-clock time."""
        return self.video_hours * 3600 / self.wall_s if self.wall_s else 0.0

    @property
    def failed_fraction(self) -> float:
        """Share of the videos tried by this run that did not end as indexed."""
        tried = self.indexed + self.failed + self.quarantined
        return (self.failed + self.quarantined) / tried if tried else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return every figure as plain JSON values."""
        return asdict(self) | {
            "hours_per_hour": self.hours_per_hour,
            "failed_fraction": self.failed_fraction,
        }


def make_report(
    store: MemoryStore,
    sources: Sequence[VideoSource],
    todo: Sequence[tuple[VideoSource, int]],
    wall_s: float,
) -> IndexReport:
    """Return what the memory says of the videos of `todo`, after a run."""
    wanted = {source.video_id for source, _ in todo}
    columns = ["video_id", "status", "error_class", "num_events", "duration_s"]
    every = store.videos(columns=columns).to_pylist() if wanted else []
    rows = [row for row in every if row["video_id"] in wanted]
    status = Counter(row["status"] for row in rows)
    failures = Counter(row["error_class"] for row in rows if row["status"] != schemas.INDEXED)
    indexed = [row for row in rows if row["status"] == schemas.INDEXED]
    return IndexReport(
        found=len(sources),
        skipped=len(sources) - len(todo),
        indexed=status[schemas.INDEXED],
        failed=status[schemas.FAILED],
        quarantined=status[schemas.QUARANTINED],
        failures=dict(failures),
        events=sum(row["num_events"] for row in indexed),
        video_hours=sum(row["duration_s"] for row in indexed) / 3600,
        wall_s=wall_s,
        tokens_stored=store.count_tokens([row["video_id"] for row in indexed]),
    )
