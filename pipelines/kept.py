"""What an indexing run keeps without decoding: moved videos, and texts that are read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.text.refresh import refresh_texts
from marc_core.types import VideoSource
from marc_core.vanished import find_moved
from marc_core.video.beside import texts_fingerprint


def keep_moved(
    store: MemoryStore,
    sources: Iterable[VideoSource],
    fingerprints: Fingerprints,
    config: IndexConfig,
) -> int:
    """Give moved and renamed videos their new address in the memory; return their number."""
    states = store.video_states()
    if not states.num_rows:
        return 0
    known = set(states["video_id"].to_pylist())
    new = (source for source in sources if source.video_id not in known)
    return len(store.rename_videos(find_moved(store, new, fingerprints, config.archive_options)))


def read_texts_again(
    store: MemoryStore, sources: Sequence[VideoSource], config: IndexConfig
) -> int:
    """Update the texts of indexed videos whose sidecars are not as they were; return their number.

    After the run's own videos are written: theirs are as they should be.
    """
    states = store.video_states()
    states = states.filter(pc.equal(states["status"], schemas.INDEXED))
    listed = pa.table(
        {
            "video_id": pa.array([s.video_id for s in sources], pa.string()),
            "listed": pa.array([texts_fingerprint(s.sidecars) for s in sources], pa.string()),
        }
    )
    both = listed.join(states.select(["video_id", "texts_fingerprint"]), "video_id", join_type="inner")
    differ = pc.not_equal(both["listed"], pc.fill_null(both["texts_fingerprint"], ""))
    stale = set(both.filter(differ)["video_id"].to_pylist())
    changed = (source for source in sources if source.video_id in stale)
    return refresh_texts(store, changed, config.archive_options)
