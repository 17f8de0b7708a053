"""What an indexing run did, and how its archive stands after it, as the memory says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.memory import MemoryStore
from marc_core.video.listing import Listing

_COLUMNS = [
    "video_id", "status", "error_class", "warnings", "num_events", "duration_s", "num_streams",
    "num_decode_errors",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """How the videos of an archive ended. Each is counted once:

        found = indexed + already + failed + still_failing + quarantined

    indexed, failed: tried by this run. already: indexed by an earlier one. still_failing: failed in
    an earlier run and not tried again, because nothing that could help has changed. quarantined:
    left alone after stalling or killing the decoder. failures: reasons of all that are not indexed.
    warnings: videos that have some, or lost packets in decoding. ignored: files that look like
    videos and fit no pattern. more_streams: files with video streams that were left out.
    copied: indexed without decoding, because another file has the same bytes. texts_updated:
    videos whose sidecars, or the settings of whose clocks, changed. texts_made: videos that text
    stages looked at, by kind. features_redone, embeddings_redone: videos with new ones, without a
    new cut. features_kept, embeddings_missing: videos without, `kept`: why, by address, of those
    that this run tried. encoder: the memory's at the end, where the run was to redo embeddings.
    blind: footage of the whole memory that its encoder does not know. events, video_hours,
    tokens_stored: of the videos indexed by this run.
    """

    found: int
    indexed: int
    already: int
    failed: int
    still_failing: int
    quarantined: int
    failures: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    ignored: int = 0
    ignored_names: tuple[str, ...] = ()
    more_streams: int = 0
    texts_updated: int = 0
    texts_made: dict[str, int] = field(default_factory=dict)
    features_redone: int = 0
    features_kept: int = 0
    embeddings_redone: int = 0
    embeddings_missing: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    encoder: str = ""
    moved: int = 0
    blind: int = 0
    copied: int = 0
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
        """Share of the archive's videos that are not indexed, whoever tried them."""
        bad = self.failed + self.still_failing + self.quarantined
        return bad / self.found if self.found else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return every figure as plain JSON values."""
        return asdict(self) | {
            "hours_per_hour": self.hours_per_hour,
            "failed_fraction": self.failed_fraction,
        }


def make_report(
    store: MemoryStore,
    found: Collection[str] | pa.ChunkedArray,
    tried: Collection[str] | pa.ChunkedArray,
    wall_s: float,
    listing: Listing | None = None,
    *,
    every_stream: bool = False,
    **redone: Any,
) -> IndexReport:
    """Return how the videos `found` ended, of which this run tried some (both video ids).

    redone: fields of the report that only the run itself knows.
    """
    found, tried = _ids(found), _ids(tried)
    rows = store.videos(columns=_COLUMNS)
    rows = rows.filter(pc.is_in(rows["video_id"], found))
    is_tried = pc.is_in(rows["video_id"], tried)
    ends = Counter(zip(rows["status"].to_pylist(), is_tried.to_pylist(), strict=True))
    bad = rows.filter(pc.not_equal(rows["status"], schemas.INDEXED))
    ours = rows.filter(pc.and_(is_tried, pc.equal(rows["status"], schemas.INDEXED)))
    return IndexReport(
        found=len(found),
        indexed=ends[schemas.INDEXED, True],
        already=ends[schemas.INDEXED, False],
        failed=ends[schemas.FAILED, True],
        still_failing=ends[schemas.FAILED, False],
        quarantined=ends[schemas.QUARANTINED, True] + ends[schemas.QUARANTINED, False],
        failures=dict(Counter(bad["error_class"].to_pylist())),
        warnings=_count(
            pc.or_(
                pc.greater(pc.fill_null(pc.list_value_length(rows["warnings"]), 0), 0),
                pc.greater(pc.fill_null(rows["num_decode_errors"], 0), 0),
            )
        ),
        ignored=listing.ignored if listing else 0,
        ignored_names=tuple(listing.ignored_names) if listing else (),
        more_streams=0 if every_stream else _count(pc.greater(rows["num_streams"], 1)),
        events=int(pc.sum(ours["num_events"]).as_py() or 0),
        video_hours=float(pc.sum(ours["duration_s"]).as_py() or 0.0) / 3600,
        wall_s=wall_s,
        tokens_stored=store.count_tokens(ours["video_id"].to_pylist()),
        **redone,
    )


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _ids(ids: Collection[str] | pa.ChunkedArray) -> pa.Array:
    if isinstance(ids, pa.ChunkedArray):
        return pc.unique(ids)
    return pa.array(sorted(set(ids)), pa.string())
