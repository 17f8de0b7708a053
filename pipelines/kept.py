"""What an indexing run settles without decoding: moved videos, texts that are read again, folders
that can be listed again."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.config import ClockConfig, IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.recorded.rows import ELSEWHERE, clock_fingerprint
from marc_core.refresh import refresh_texts
from marc_core.types import VideoSource
from marc_core.vanished import find_moved
from marc_core.video.listing import Listing


def keep_moved(
    store: MemoryStore, found: pa.Table, fingerprints: Fingerprints | None, config: IndexConfig
) -> int:
    """Give moved and renamed videos their new address in the memory; return their number.

    found: rows of plan.FOUND. fingerprints: of videos that are worth it; None: all are.
    """
    moves = moved_videos(store, found, store.video_states(), fingerprints, config)
    return len(store.rename_videos(moves)) if moves else 0


def moved_videos(
    store: MemoryStore,
    found: pa.Table,
    states: pa.Table,
    fingerprints: Fingerprints | None,
    config: IndexConfig,
) -> dict[str, VideoSource]:
    """Return video_id -> where the file lies now, as `keep_moved` settles it; nothing is written.

    states: what the memory knows (`video_states`).
    """
    if not states.num_rows:
        return {}
    new = found.filter(pc.invert(pc.is_in(found["video_id"], states["video_id"])))
    sources = (VideoSource.from_json(source.as_py()) for source in new["source"])
    absent = states["video_id"].filter(pc.invert(pc.is_in(states["video_id"], found["video_id"])))
    return find_moved(store, sources, fingerprints, config.archive_options, absent=absent)


def with_moves(states: pa.Table, moves: Mapping[str, VideoSource]) -> pa.Table:
    """Return the states as they are once these videos have their new address."""
    if not moves:
        return states
    names = ("video_id", "uri")
    rows = zip(*(states[name].to_pylist() for name in names), strict=True)
    placed = [(moves[i].video_id, moves[i].uri) if i in moves else (i, uri) for i, uri in rows]
    for name, column in zip(names, zip(*placed, strict=True), strict=True):
        place = states.schema.get_field_index(name)
        field = states.schema.field(name)
        states = states.set_column(place, field, pa.array(column, field.type))
    return states


def read_texts_again(store: MemoryStore, found: pa.Table, config: IndexConfig) -> int:
    """Update texts and clocks of indexed videos whose sidecars, or the settings of clocks, are not
    as they were; return their number.

    found: rows of plan.FOUND. To be called when the run's own videos are written: theirs are as
    they should be.
    """
    stale = stale_texts(found, store.video_states(), config)
    sources = (VideoSource.from_json(source.as_py()) for source in stale["source"])
    return refresh_texts(store, sources, config.archive_options, config.clock)


def forget_readable_folders(
    store: MemoryStore, found: pa.Table, states: pa.Table, listing: Listing
) -> None:
    """Remove the failed rows of folders that could be listed this time, or are gone."""
    folders = states.filter(pc.ends_with(states["uri"], "/"))
    old = folders.filter(pc.invert(pc.is_in(folders["video_id"], found["video_id"])))
    ids = zip(old["video_id"].to_pylist(), old["uri"].to_pylist(), strict=True)
    store.delete_videos([video_id for video_id, uri in ids if listing.covers(uri)])


def stale_texts(found: pa.Table, states: pa.Table, config: IndexConfig) -> pa.Table:
    """Return the rows of `found` that are indexed with other files beside them than are listed, or
    whose clock was read by other settings.

    A video of an older memory, which names no settings, was read by those that say nothing. One
    that was placed elsewhere without decoding counts where its address may say something new.
    """
    indexed = states.filter(pc.equal(states["status"], schemas.INDEXED))
    known = indexed.select(["video_id", "texts_fingerprint", "clock_fingerprint"])
    both = found.join(known, keys="video_id", join_type="inner")
    texts = pc.not_equal(both["listed_texts"], pc.fill_null(both["texts_fingerprint"], ""))
    now = clock_fingerprint(config.clock)
    then = pc.fill_null(both["clock_fingerprint"], clock_fingerprint(ClockConfig()))
    if not config.clock.reads_addresses:
        then = pc.if_else(pc.equal(then, ELSEWHERE), now, then)
    return both.filter(pc.or_(texts, pc.not_equal(then, now)))
