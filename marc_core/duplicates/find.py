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

from marc_core.duplicates.align import Track, aligned, distinct
from marc_core.filenames import stream_of
from marc_core.memory.tables import scan
from marc_core.recorded.sources import FILE_NAME, SIDECAR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.duplicates.config import DedupConfig
    from marc_core.memory import MemoryStore

_VIDEO = [
    "video_id", "uri", "content_digest", "cuts_fingerprint", "duration_s", "width", "height",
    "recorded_at", "recorded_source",
]  # fmt: skip
_EVENT = ["event_id", "video_id", "start_s", "end_s", "video_start_s", "embedding", "duplicate_of"]
_SURE = (SIDECAR, FILE_NAME)
"""Sources of a clock that a copy does not get by being written."""
_ROWS = 2048
"""Events compared with those of their length at a time (our choice: 16 MB a thousand of them)."""
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
    row: Mapping[str, Any]
    event_ids: tuple[str, ...]
    hidden: int
    track: Track

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
    videos = {video.row["video_id"]: video for video in _videos(store)}
    found: list[tuple[Literal["bytes", "similar"], _Video, _Video, list[tuple[int, int]]]] = []
    copies = set()
    for kept, copy, pairs in _same_bytes(videos.values()):
        found.append(("bytes", kept, copy, pairs))
        copies.add(copy.row["video_id"])
    left = [video for key, video in videos.items() if key not in copies]
    wanted = _pairs_of_videos(left, config)
    for number, (one, other) in enumerate(wanted):
        progress(number, len(wanted))
        kept, copy = sorted((one, other), key=lambda video: video.rank)
        if not _recorded_apart(kept, copy):
            pairs = aligned(
                kept.track, copy.track, similarity=config.similarity,
                tolerance_s=config.tolerance_s, min_events=config.min_events,
            )  # fmt: skip
            if pairs:
                found.append(("similar", kept, copy, pairs))
    progress(len(wanted), len(wanted))
    return sorted(_settled(found), key=lambda one: (one.uri, one.of_uri))


def _videos(store: MemoryStore) -> Iterator[_Video]:
    """Yield the visible videos with their events that are shown."""
    rows = scan(store.tables.videos, _VIDEO, "num_events > 0").to_pylist()
    events: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    columns = scan(store.tables.events, _EVENT)
    flat = columns["embedding"].combine_chunks().flatten().to_numpy()
    vectors = flat.reshape(columns.num_rows, -1)
    hidden: Counter[str] = Counter()
    for at, row in enumerate(columns.drop_columns(["embedding"]).to_pylist()):
        if row["duplicate_of"] is not None:
            hidden[row["video_id"]] += 1
            continue
        events[row["video_id"]].append({**row, "at": at})
    for row in rows:
        own = sorted(events[row["video_id"]], key=lambda event: event["event_id"])
        if own:
            yield _video(row, own, hidden[row["video_id"]], vectors)


def _video(
    row: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    hidden: int,
    vectors: NDArray[np.float32],
) -> _Video:
    starts = np.array([event["start_s"] - event["video_start_s"] for event in events])
    lengths = np.array([event["end_s"] - event["start_s"] for event in events])
    own = vectors[[event["at"] for event in events]]
    unit = own / np.linalg.norm(own, axis=1, keepdims=True)
    track = Track(starts_E=starts, lengths_E=lengths, vectors_ED=unit.astype(np.float32))
    return _Video(row, tuple(event["event_id"] for event in events), hidden, track)


def _same_bytes(videos: Any) -> Iterator[tuple[_Video, _Video, list[tuple[int, int]]]]:
    """Yield (kept, copy, pairs of events) of files with one content that were cut alike."""
    groups: dict[tuple[Any, ...], list[_Video]] = defaultdict(list)
    for video in videos:
        digest, stream = video.row["content_digest"], stream_of(video.row["uri"])
        if digest is not None:
            groups[digest, stream, video.row["cuts_fingerprint"]].append(video)
    for group in groups.values():
        kept, *copies = sorted(group, key=lambda video: (video.hidden, *video.rank))
        for copy in copies:
            same = kept.track.starts_E.shape == copy.track.starts_E.shape
            if same and np.array_equal(kept.track.starts_E, copy.track.starts_E):
                yield kept, copy, [(i, i) for i in range(len(copy.event_ids))]


def _pairs_of_videos(videos: Sequence[_Video], config: DedupConfig) -> list[tuple[_Video, _Video]]:
    """Return the pairs of videos with enough pairs of distinct events that are alike and as long.

    Events are sorted by length, so that each is compared with those of its own only.
    """
    owners, lengths, vectors = [], [], []
    for number, video in enumerate(videos):
        alone = distinct(video.track.vectors_ED, config.similarity)
        owners += [number] * int(alone.sum())
        lengths.append(video.track.lengths_E[alone])
        vectors.append(video.track.vectors_ED[alone])
    if not owners:
        return []
    lengths_E = np.concatenate(lengths)
    order = np.argsort(lengths_E, kind="stable")
    lengths_E, owners_E = lengths_E[order], np.array(owners)[order]
    vectors_ED = np.concatenate(vectors)[order]
    counts: Counter[tuple[int, int]] = Counter()
    for first in range(0, len(order), _ROWS):
        last = min(first + _ROWS, len(order))
        reach = np.searchsorted(lengths_E, lengths_E[last - 1] + config.tolerance_s, side="right")
        alike = vectors_ED[first:last] @ vectors_ED[first:reach].T >= config.similarity
        alike &= lengths_E[None, first:reach] - lengths_E[first:last, None] <= config.tolerance_s
        for i, j in np.argwhere(np.triu(alike, 1)):
            one, other = sorted((int(owners_E[first + i]), int(owners_E[first + j])))
            if one != other:
                counts[one, other] += 1
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


def _settled(
    found: Sequence[tuple[Literal["bytes", "similar"], _Video, _Video, list[tuple[int, int]]]],
) -> Iterator[Duplicate]:
    """Yield what is hidden in favour of what: each event once, and of none that is hidden itself.

    The kept video of a pair always has the lower rank (or, of equal bytes, is the one that is
    shown), so following who is kept ends.
    """
    root: dict[str, str] = {}
    for _, kept, copy, pairs in found:
        for i, j in pairs:
            root.setdefault(copy.event_ids[j], kept.event_ids[i])
    hidden: Counter[str] = Counter()
    settled = []
    for kind, kept, copy, pairs in found:
        events = {}
        for i, j in pairs:
            event_id, first = copy.event_ids[j], kept.event_ids[i]
            if root[event_id] != first:
                continue  # it is hidden already, in favour of another video's
            while first in root:
                first = root[first]
            events[event_id] = first
        if events:
            hidden[copy.row["video_id"]] += len(events)
            i, j = pairs[0]
            offset_s = float(copy.track.starts_E[j] - kept.track.starts_E[i])
            settled.append((kind, kept.row, copy, events, offset_s))
    for kind, of_row, copy, events, offset_s in settled:
        row = copy.row
        yield Duplicate(
            kind=kind, video_id=row["video_id"], uri=row["uri"], of_video_id=of_row["video_id"],
            of_uri=of_row["uri"], events=events, offset_s=offset_s,
            whole=hidden[row["video_id"]] == len(copy.event_ids),
        )  # fmt: skip
