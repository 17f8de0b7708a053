"""Files beside a video that were added, changed or removed since it was indexed: read again.

The listing knows their names, sizes and times, so nothing is read of videos whose files are as they
were. What changes is text, camera, tags, time of recording and warnings; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core import schemas
from marc_core.memory.changes import SAID
from marc_core.memory.filters import is_in
from marc_core.memory.tables import scan
from marc_core.text.sidecar import WARNING_PREFIX, Sidecar, read_sidecar
from marc_core.text_rows import sidecar_rows
from marc_core.types import VideoSource

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

_VIDEOS_A_COMMIT = 256
_READERS = 16
"""Files read at once (our choice: reading from a store is waiting)."""


def refresh_texts(
    store: MemoryStore, sources: Iterable[VideoSource], options: Mapping[str, str]
) -> int:
    """Read the files beside these indexed videos again and update the memory; return their number.

    Raises MemoryStoreError. A file that cannot be read becomes a warning, as when indexing.
    """
    count = 0
    with ThreadPoolExecutor(_READERS) as pool:
        for some in _in_pieces(sources):
            sidecars = list(pool.map(lambda source: read_sidecar(source, options), some))
            ids = [source.video_id for source in some]
            count += _update(store, dict(zip(ids, sidecars, strict=True)))
    return count


def _update(store: MemoryStore, sidecars: Mapping[str, Sidecar]) -> int:
    ours = is_in("video_id", list(sidecars))
    warnings = scan(store.tables.videos, ["video_id", "warnings"], f"{ours} AND num_events > 0")
    columns = ["video_id", "event_id", "video_start_s", "start_s", "end_s"]
    events: dict[str, list[tuple[str, float, float, float]]] = {}
    for video_id, *event in _tuples(scan(store.tables.events, columns, ours)):
        events.setdefault(video_id, []).append((event[0], event[1], event[2], event[3]))
    said: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    for video_id, old in _tuples(warnings):
        spans = sorted(events.get(video_id, []))
        if not spans:
            continue
        sidecar = sidecars[video_id].on_clock_of(spans[0][1], max(end for *_, end in spans))
        said.append(_said(video_id, sidecar, old or ()))
        texts += sidecar_rows([(e, start, end) for e, _, start, end in spans], video_id, sidecar)
    if said:
        store.update_texts(
            pa.Table.from_pylist(said, schema=SAID), pa.Table.from_pylist(texts, schemas.TEXTS)
        )
    return len(said)


def _said(video_id: str, sidecar: Sidecar, old_warnings: Sequence[str]) -> dict[str, Any]:
    kept = [w for w in old_warnings if not w.startswith(WARNING_PREFIX)]
    return {
        "video_id": video_id,
        "camera": sidecar.camera,
        "tags": list(sidecar.tags),
        "recorded_at": sidecar.recorded_at,
        "warnings": [*kept, *sidecar.warnings],
        "texts_fingerprint": sidecar.fingerprint,
        "synthetic": sidecar.synthetic,
    }


def _tuples(rows: pa.Table) -> Iterable[Sequence[Any]]:
    return zip(*(column.to_pylist() for column in rows.columns), strict=True)


def _in_pieces(sources: Iterable[VideoSource]) -> Iterator[list[VideoSource]]:
    rest = iter(sources)
    while some := list(islice(rest, _VIDEOS_A_COMMIT)):
        yield some
