"""What is the same content in a memory, and which of each is kept.

    videos --equal content_digest and cut----------------> bytes
    events --alike and as long--> pairs of videos --align--> similar

Of the same content the longest video is kept, of equal lengths the one of most pixels, then the one
whose clock is known, then the shortest address. An event is hidden only where one that is kept
fits it; what fits nothing of the other video stays. Nothing is decided by the wall clock but this:
two recordings whose own files or names say different times are two recordings.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from marc_core.duplicates.align import aligned, distinct
from marc_core.duplicates.candidates import pairs_of_owners
from marc_core.duplicates.rows import EventRows
from marc_core.filenames import stream_of
from marc_core.memory.hiding import HIDDEN
from marc_core.memory.tables import missing_columns, scan
from marc_core.recorded.sources import FILE_NAME, SIDECAR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.duplicates.config import DedupConfig
    from marc_core.memory import MemoryStore

_VIDEO = [
    "video_id", "uri", "content_digest", "cuts_fingerprint", "duration_s", "width", "height",
    "recorded_at", "recorded_source",
]  # fmt: skip
_SURE = (SIDECAR, FILE_NAME)
"""Sources of a clock that a copy does not get by being written."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicate:
    """What of one video is the same as in another.

    kind: bytes, the files are the same; similar, their events are, at one offset. events: event_id
    -> the one that is kept. whole: nothing else of the video would be shown. offset_s: how much
    later the content is in this video, from each one's 0:00.
    """

    kind: Literal["bytes", "similar"]
    video_id: str
    uri: str
    of_video_id: str
    of_uri: str
    events: Mapping[str, str]
    whole: bool
    offset_s: float


@dataclass(frozen=True, slots=True)
class _Video:
    """rows: the numbers of its shown events (`EventRows`), by time. hidden: how many are not."""

    row: Mapping[str, Any]
    rows: NDArray[np.int64]
    hidden: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """Lower is kept."""
        row = self.row
        pixels = (row["width"] or 0) * (row["height"] or 0)
        clock = row["recorded_at"] is None
        return (-round(row["duration_s"] or 0), -pixels, clock, len(row["uri"]), row["uri"])


def find_duplicates(
    store: MemoryStore, config: DedupConfig, progress: Progress = lambda *_: None
) -> list[Duplicate]:
    """Return what is the same in the memory and still shown, by address. Nothing is written.

    progress: called with (pairs of videos compared, pairs to compare).
    """
    rows = scan(store.tables.videos, _VIDEO, "num_events > 0").to_pylist()
    numbers = {row["video_id"]: number for number, row in enumerate(rows)}
    with EventRows(store.tables.events, numbers) as events:
        hidden = _hidden(store)
        own = zip(rows, events.of_videos(len(rows)), strict=True)
        videos = [_Video(row, its, hidden[row["video_id"]]) for row, its in own if len(its)]
        found: list[_Found] = [("bytes", *same) for same in _same_bytes(videos, events)]
        copies = {copy.row["video_id"] for _, _, copy, _ in found}
        left = [video for video in videos if video.row["video_id"] not in copies]
        found += [("similar", *same) for same in _similar(left, events, config, progress)]
        return sorted(_settled(found, events), key=lambda one: (one.uri, one.of_uri))


Pairs = list[tuple[int, int]]
_Same = tuple[_Video, _Video, Pairs]
"""What is kept, its copy, and the pairs of their events, by their places in each video."""
_Found = tuple[Literal["bytes", "similar"], _Video, _Video, Pairs]


def _hidden(store: MemoryStore) -> Counter[str]:
    if missing_columns(store.tables.events):
        return Counter()
    return Counter(scan(store.tables.events, ["video_id"], HIDDEN)["video_id"].to_pylist())


def _same_bytes(videos: Sequence[_Video], events: EventRows) -> Iterator[_Same]:
    """Yield files with one content that were cut alike."""
    groups: dict[tuple[Any, ...], list[_Video]] = defaultdict(list)
    for video in videos:
        digest, stream = video.row["content_digest"], stream_of(video.row["uri"])
        if digest is not None:
            groups[digest, stream, video.row["cuts_fingerprint"]].append(video)
    for group in groups.values():
        kept, *copies = sorted(group, key=lambda video: (video.hidden, *video.rank))
        for copy in copies:
            starts = (events.starts_E[kept.rows], events.starts_E[copy.rows])
            if np.array_equal(*starts):
                yield kept, copy, [(i, i) for i in range(len(copy.rows))]


def _similar(
    videos: Sequence[_Video], events: EventRows, config: DedupConfig, progress: Progress
) -> Iterator[_Same]:
    """Yield videos of which events are alike, as long, and at one offset."""
    wanted = _pairs_of_videos(videos, events, config)
    for number, (one, other) in enumerate(wanted):
        progress(number, len(wanted))
        kept, copy = sorted((one, other), key=lambda video: video.rank)
        if not _recorded_apart(kept, copy):
            pairs = aligned(
                events.track(kept.rows), events.track(copy.rows), similarity=config.similarity,
                tolerance_s=config.tolerance_s, min_events=config.min_events,
            )  # fmt: skip
            if pairs:
                yield kept, copy, pairs
    progress(len(wanted), len(wanted))


def _pairs_of_videos(
    videos: Sequence[_Video], events: EventRows, config: DedupConfig
) -> list[tuple[_Video, _Video]]:
    """Return the pairs of videos with enough distinct events that are alike and as long."""
    rows, owners = [], []
    for number, video in enumerate(videos):
        own = video.rows[distinct(events.vectors(video.rows), config.similarity)]
        rows.append(own)
        owners.append(np.full(len(own), number, np.int32))
    if not any(len(own) for own in rows):
        return []
    rows_E = np.concatenate(rows)
    counts = pairs_of_owners(
        rows_E, np.concatenate(owners), events.lengths_E[rows_E], events.vectors,
        similarity=config.similarity, tolerance_s=config.tolerance_s,
    )  # fmt: skip
    wanted = sorted(pair for pair, count in counts.items() if count >= config.min_events)
    return [(videos[one], videos[other]) for one, other in wanted]


def _recorded_apart(one: _Video, other: _Video) -> bool:
    """Return whether two sure clocks say that these were recorded at different times."""
    spans = []
    for row in (one.row, other.row):
        if row["recorded_at"] is None or row["recorded_source"] not in _SURE:
            return False
        length = dt.timedelta(seconds=row["duration_s"] or 0.0)
        spans.append((row["recorded_at"], row["recorded_at"] + length))
    (start, end), (other_start, other_end) = spans
    return bool(end < other_start or other_end < start)


def _settled(found: Sequence[_Found], events: EventRows) -> Iterator[Duplicate]:
    """Yield what is hidden in favour of what: each event once, and of none that is hidden itself.

    The kept video of a pair always has the lower rank (or, of equal bytes, is the one that is
    shown), so following who is kept ends.
    """
    root: dict[int, int] = {}
    for _, kept, copy, pairs in found:
        for i, j in pairs:
            root.setdefault(int(copy.rows[j]), int(kept.rows[i]))
    hidden: Counter[str] = Counter()
    settled = []
    for kind, kept, copy, pairs in found:
        named = {}
        for i, j in pairs:
            event, first = int(copy.rows[j]), int(kept.rows[i])
            if root[event] != first:
                continue  # it is hidden already, in favour of another video's
            while first in root:
                first = root[first]
            named[event] = first
        if named:
            hidden[copy.row["video_id"]] += len(named)
            i, j = pairs[0]
            offset_s = float(events.starts_E[copy.rows[j]] - events.starts_E[kept.rows[i]])
            settled.append((kind, kept.row, copy, named, offset_s))
    for kind, of_row, copy, named, offset_s in settled:
        row = copy.row
        yield Duplicate(
            kind=kind, video_id=row["video_id"], uri=row["uri"], of_video_id=of_row["video_id"],
            of_uri=of_row["uri"], events=_ids(named, events), offset_s=offset_s,
            whole=hidden[row["video_id"]] == len(copy.rows),
        )  # fmt: skip


def _ids(named: Mapping[int, int], events: EventRows) -> dict[str, str]:
    """Return event_id -> event_id of numbers of events."""
    ids = (events.ids.take(pa.array(numbers)).to_pylist() for numbers in (named, named.values()))
    return dict(zip(*ids, strict=True))
