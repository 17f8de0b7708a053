"""Files beside a video that were added, changed or removed since it was indexed: read again; and
its clock, where the settings of clocks have changed.

The listing knows their names, sizes and times, so nothing is read of videos whose files are as they
were. What changes is text, camera, tags, time of recording and warnings; nothing is decoded: what
the container says of its clock is in the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core import schemas
from marc_core.live.addresses import source_tags
from marc_core.memory.changes import SAID
from marc_core.memory.filters import is_in
from marc_core.memory.tables import scan
from marc_core.recorded.config import ClockConfig
from marc_core.recorded.rows import recorded_row, stored_tags
from marc_core.recorded.sources import WARNING_PREFIX as CLOCK_PREFIX
from marc_core.text.sidecar import WARNING_PREFIX, Sidecar, read_sidecar
from marc_core.text_rows import sidecar_rows
from marc_core.types import VideoSource

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

_VIDEOS_A_COMMIT = 256
_READERS = 16
"""Files read at once (our choice: reading from a store is waiting)."""


def refresh_texts(
    store: MemoryStore,
    sources: Iterable[VideoSource],
    options: Mapping[str, str],
    clock: ClockConfig | None = None,
) -> int:
    """Read the files beside these indexed videos again and update the memory; return their number.

    clock: the settings of clocks; default: those of a configuration that says nothing. Raises
    MemoryStoreError. A file that cannot be read becomes a warning, as when indexing.
    """
    count, clock = 0, clock or ClockConfig()
    with ThreadPoolExecutor(_READERS) as pool:
        for some in _in_pieces(sources):
            sidecars = list(pool.map(partial(read_sidecar, options=options, zone=clock.zone), some))
            by_id = {s.video_id: (s, found) for s, found in zip(some, sidecars, strict=True)}
            count += _update(store, by_id, clock)
    return count


def _update(
    store: MemoryStore, sidecars: Mapping[str, tuple[VideoSource, Sidecar]], clock: ClockConfig
) -> int:
    ours = is_in("video_id", list(sidecars))
    named = ["video_id", "warnings", "clock_tags", "duration_s", "synthetic", "camera", "tags"]
    videos = scan(store.tables.videos, named, f"{ours} AND num_events > 0").to_pylist()
    columns = ["video_id", "event_id", "video_start_s", "start_s", "end_s"]
    events: dict[str, list[tuple[str, float, float, float]]] = {}
    for video_id, *event in _tuples(scan(store.tables.events, columns, ours)):
        events.setdefault(video_id, []).append((event[0], event[1], event[2], event[3]))
    said: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    for row in videos:
        video_id = row["video_id"]
        spans = sorted(events.get(video_id, []))
        if not spans:
            continue
        source, read = sidecars[video_id]
        sidecar = read.on_clock_of(spans[0][1], max(end for *_, end in spans))
        said.append(_said(source, sidecar, row, clock))
        texts += sidecar_rows([(e, start, end) for e, _, start, end in spans], video_id, sidecar)
    if said:
        store.update_texts(
            pa.Table.from_pylist(said, schema=SAID), pa.Table.from_pylist(texts, schemas.TEXTS)
        )
    return len(said)


def _said(
    source: VideoSource, sidecar: Sidecar, row: Mapping[str, Any], clock: ClockConfig
) -> dict[str, Any]:
    """Return the SAID row of a video; row: what the memory knows of it."""
    recorded, doubts = recorded_row(
        source,
        sidecar=sidecar.recorded_at,
        tags=stored_tags(row["clock_tags"]),
        duration_s=row["duration_s"] or 0.0,
        config=clock,
    )
    del recorded["clock_tags"]
    ours = (WARNING_PREFIX, CLOCK_PREFIX)
    kept = [warning for warning in row["warnings"] or () if not warning.startswith(ours)]
    of_source = source_tags(row["tags"] or ())
    return {
        "video_id": source.video_id,
        "camera": sidecar.camera or (row["camera"] if of_source else None),
        "tags": list(dict.fromkeys([*sidecar.tags, *of_source])),
        "warnings": [*kept, *sidecar.warnings, *doubts],
        "texts_fingerprint": sidecar.fingerprint,
        # What the video itself says of being synthetic is not lost.
        "synthetic": sidecar.synthetic or bool(row["synthetic"]),
        **recorded,
    }


def _tuples(rows: pa.Table) -> Iterable[Sequence[Any]]:
    return zip(*(column.to_pylist() for column in rows.columns), strict=True)


def _in_pieces(sources: Iterable[VideoSource]) -> Iterator[list[VideoSource]]:
    rest = iter(sources)
    while some := list(islice(rest, _VIDEOS_A_COMMIT)):
        yield some
