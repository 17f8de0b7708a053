"""The memory: one open set of tables, with all that may be written to and read from them.

Reading is in `reader`, writing in `publishing` and `changes`, the exchange of all vectors in
`embeddings`, upkeep in `gc` and `maintenance`, search in `retriever`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import (
    changes,
    embeddings,
    hiding,
    maintenance,
    publishing,
    stage_texts,
)
from marc_core.memory import gaps as gap_rows
from marc_core.memory import parts as recordings
from marc_core.memory.filters import is_in
from marc_core.memory.gc import GcPolicy, collect
from marc_core.memory.kept import Kept
from marc_core.memory.reader import MemoryReader
from marc_core.memory.rows import conform
from marc_core.memory.tables import (
    RUNS,
    merge,
    open_tables,
    scan,
)
from marc_core.types import VideoSource

if TYPE_CHECKING:
    pass

_OF_AN_ATTEMPT = (
    "status", "error_class", "error_message", "warnings", "attempts", "cuts_fingerprint",
    "embeddings_fingerprint", "features_fingerprint", "indexed_at",
)  # fmt: skip
"""Columns of `videos` that a failed attempt writes, also where an earlier one had succeeded."""


class MemoryStore(MemoryReader):
    """One open memory, to read and to write. Safe to use from several threads; open one in each
    process."""

    @classmethod
    def open(
        cls,
        config: MemoryConfig,
        *,
        embedding_dim: int | None = None,
        encoder_fingerprint: str | None = None,
        create: bool = False,
        cache_bytes: int | None = None,
    ) -> MemoryStore:
        """Open the memory at `config.uri`; with `create`, make it when it is missing.

        A new memory is bound to `embedding_dim` and, where given, `encoder_fingerprint`; later
        calls that name others are refused. `cache_bytes` limits each of LanceDB's two caches;
        its own limits are 6 GiB for indexes and 1 GiB for metadata. Raises MemoryStoreError.
        """
        tables = open_tables(
            config,
            embedding_dim=embedding_dim,
            encoder_fingerprint=encoder_fingerprint,
            create=create,
            cache_bytes=cache_bytes,
        )
        return cls(tables, config)

    # Writing

    def _begin_write(self) -> None:
        """See the latest state, with all columns of this version. Raises MemoryStoreError where
        the vectors are another encoder's by now."""
        self.refresh()
        self.tables.check_bound()
        self.tables.complete_columns()

    def publish(
        self,
        videos: pa.Table,
        events: pa.Table,
        features: pa.Table | None = None,
        texts: pa.Table | None = None,
    ) -> None:
        """Make these videos, complete with all that is derived, the memory's present state.

        videos: schemas.VIDEOS rows with status `indexed`. events: all of their events. features,
        texts: all of theirs, or None for none; `events.text` is what `joined_texts` makes of them.
        Anything else that the memory holds of these videos, or of older versions of their uris, is
        removed. Idempotent; may run in several processes at once. Raises MemoryStoreError before
        anything is written when rows break a rule, and after repeated commit conflicts.
        """
        self._begin_write()
        new = publishing.checked(videos, events, features, texts, self.meta.embedding_dim)
        publishing.publish(self.tables, new)
        hiding.release(self.tables, new.video_ids)

    def plan_parts(self, videos: pa.Table, parts: pa.Table) -> None:
        """Keep which parts these recordings have: rows of `videos`, and of schemas.PARTS.
        What the memory held of the videos goes. Raises MemoryStoreError."""
        self._begin_write()
        recordings.plan(self.tables, videos, parts)
        hiding.release(self.tables, videos["video_id"].to_pylist())

    def publish_part(
        self, part: pa.Table, events: pa.Table, features: pa.Table | None, texts: pa.Table | None
    ) -> None:
        """Make one part, complete with all that is derived, visible. Idempotent; may run in several
        processes at once. Raises MemoryStoreError for rows that break a rule."""
        self._begin_write()
        recordings.publish(self.tables, part, events, features, texts)
        hiding.release(self.tables, part["video_id"].to_pylist())

    def record_failed_parts(self, parts: pa.Table) -> None:
        """Record that these parts could not be indexed."""
        self._begin_write()
        recordings.record_failures(self.tables, parts)

    def settle_parts(self, video_ids: Iterable[str]) -> None:
        """Write the rows of these recordings from those of their parts; for one process at a time,
        when no part of them is being written."""
        self._begin_write()
        recordings.settle(self.tables, video_ids)

    def parts(self) -> pa.Table:
        """Return the rows of all recordings' parts, in order."""
        return recordings.rows_of(self.tables)

    def record_failures(self, videos: pa.Table) -> None:
        """Record that these videos could not be indexed, with reason and attempts.

        What an earlier run indexed of them, or of older versions of their uris, stays and stays
        visible: such a row keeps what was known of it. Raises MemoryStoreError.
        """
        videos = conform(videos, schemas.VIDEOS, "videos", "video_id")
        if pc.any(pc.equal(videos["status"], schemas.INDEXED)).as_py():
            raise MemoryStoreError("A failure's status must be 'failed' or 'quarantined'.")
        self.refresh()
        self.tables.complete_columns()
        ours = f"{is_in('video_id', videos['video_id'].to_pylist())} AND num_events > 0"
        known = scan(self.tables.videos, schemas.VIDEOS.names, ours).to_pylist()
        kept = {row["video_id"]: row for row in known}
        rows = [
            kept.get(row["video_id"], row) | {name: row[name] for name in _OF_AN_ATTEMPT}
            for row in videos.to_pylist()
        ]
        merge(self.tables.videos, "video_id", pa.Table.from_pylist(rows, schema=schemas.VIDEOS))

    def update_texts(
        self,
        videos: pa.Table,
        texts: pa.Table,
        *,
        kinds: Sequence[schemas.TextKind] = ("sidecar",),
    ) -> None:
        """Replace the videos' texts of these kinds, and camera, tags, recorded_at and warnings of
        the videos and their events. Cuts, embeddings and features stay; nothing is decoded.

        videos: rows of `changes.SAID`. texts: all texts of these kinds. Raises MemoryStoreError.
        """
        self._begin_write()
        changes.update_texts(self.tables, videos, texts, kinds)

    def publish_stage_texts(self, outcomes: pa.Table, texts: pa.Table) -> None:
        """Replace what text stages have made of videos; texts of other kinds stay.

        outcomes: rows of `stage_texts.OUTCOMES`, one a video and kind. texts: all TEXTS rows of
        those that have a fingerprint. Videos that were indexed again or deleted meanwhile are left
        out: the next run takes them up. Raises MemoryStoreError.
        """
        self._begin_write()
        stage_texts.publish(self.tables, outcomes, texts)

    def rename_videos(self, moves: Mapping[str, VideoSource]) -> list[str]:
        """Give videos of the same content that lie elsewhere now their new address and id.

        moves: old video_id -> the file as it is listed now. Returns the new ids; an old id that
        has no visible events is left out. Raises MemoryStoreError.
        """
        self._begin_write()
        return changes.rename_videos(self.tables, moves)

    def copy_videos(self, copies: Mapping[VideoSource, str]) -> list[str]:
        """Give these files the events, texts and features of the video of the same content that is
        indexed already. copies: file -> its video_id.

        Returns the new ids; a file whose original has no visible events is left out. Raises
        MemoryStoreError.
        """
        self._begin_write()
        return changes.copy_videos(self.tables, copies)

    def hide_duplicates(self, events: Mapping[str, str], videos: Mapping[str, str]) -> int:
        """Hide events (event_id -> the one that is kept) and whole videos (the same by video_id)
        from every search; return how many events were shown before. `show_duplicates` undoes it."""
        self._begin_write()
        return hiding.hide(self.tables, events, videos)

    def show_duplicates(self, video_ids: Sequence[str] | None = None) -> int:
        """Show hidden events again, of these videos or all; return their number."""
        self._begin_write()
        return hiding.show(self.tables, video_ids)

    def publish_features(self, features: pa.Table) -> None:
        """Replace the features of videos that are indexed; their cuts and embeddings stay.

        features: rows of the same fingerprints for every event of each of their videos. Raises
        MemoryStoreError for rows that do not fit the events that are there.
        """
        self.refresh()
        changes.publish_features(self.tables, features)

    def stage_embeddings(self, rows: pa.Table) -> None:
        """Keep vectors of another encoder until `switch_encoder`; readers see nothing of them.

        rows: of schemas.embeddings_schema, of one encoder. Idempotent. Raises MemoryStoreError.
        """
        embeddings.stage(self.tables, rows)

    def missing_embeddings(self, encoder_fingerprint: str) -> pa.Table:
        """Return (event_id, video_id) of visible events without a staged vector of this encoder."""
        self.refresh()
        return embeddings.missing(self.tables, encoder_fingerprint)

    def switch_encoder(
        self, encoder_fingerprint: str, embedding_dim: int, config_yaml: str
    ) -> bool:
        """Exchange all vectors for the staged ones of this encoder; return False where some miss.

        Readers see the old ones or the new: one commit exchanges them, and with them the
        configuration from which questions take their models. Raises MemoryStoreError where other
        writers keep interfering.
        """
        self.record_run(config_yaml, encoder_fingerprint=encoder_fingerprint)
        if not embeddings.exchange(self.tables, encoder_fingerprint, embedding_dim):
            return False
        self.tables = open_tables(self.config)
        self._hidden = Kept(self.tables)
        self.complete_switch()
        return True

    def complete_switch(self) -> None:
        """Do what a `switch_encoder` that was killed has left undone, if anything."""
        embeddings.complete(self.tables, self.config)

    def delete_videos(self, video_ids: Sequence[str]) -> dict[str, int]:
        """Delete these videos and everything derived; return deleted rows by table. Ids that are
        not known are passed over."""
        self.refresh()
        return changes.delete_videos(self.tables, video_ids)

    def delete_video(self, id_or_uri: str, *, purge: bool = False) -> dict[str, int]:
        """Delete a video, all content versions when a uri is given, and everything derived.

        Returns deleted rows by table. The bytes leave the disk with `purge` (see `gc`), or when
        upkeep rewrites their files. Raises MemoryStoreError when no such video is known.
        """
        self.refresh()
        ids = [row["video_id"] for row in self._named(id_or_uri, ["video_id"])]
        if not ids:
            raise MemoryStoreError(
                f"The memory has no video '{id_or_uri}'. `marc videos` lists what it holds; name a "
                "video by its id or uri."
            )
        counts = self.delete_videos(ids)
        if purge:
            self.gc(GcPolicy(purge=True))
        return counts

    def record_run(self, config_yaml: str, *, encoder_fingerprint: str | None = None) -> str:
        """Record the resolved configuration of an indexing run; return the run's id.

        It counts while the memory's vectors are of this encoder; default: of the present one.
        """
        encoder = encoder_fingerprint or self.meta.encoder_fingerprint
        run_id = f"{uuid.uuid4().hex}@{encoder}" if encoder else uuid.uuid4().hex
        row = {"run_id": run_id, "started_at": dt.datetime.now(dt.UTC), "config_yaml": config_yaml}
        merge(self.tables.runs, "run_id", pa.Table.from_pylist([row], schema=RUNS))
        return run_id

    def gc(self, policy: GcPolicy) -> dict[str, int]:
        """Compact, index, remove old versions, and what `policy` says; return deleted orphans.

        Orphans stay behind when a writer died and its video was changed, or removed, before a
        rerun; readers never see them. A purge takes at least a minute.
        """
        return collect(self.tables, self.config, policy)

    def optimize(self) -> None:
        """Compact small files, build and extend indexes, remove versions older than
        `keep_versions_s`."""
        self.gc(GcPolicy())

    def optimize_if_due(self) -> bool:
        """`optimize` where many commits have left many files; return whether it was.

        For writers that live long: a commit takes longer for every file that is there.
        """
        due = maintenance.is_due(self.tables)
        if due:
            self.optimize()
        return due

    def record_gaps(self, gaps: Iterable[gap_rows.Gap]) -> None:
        """Record gaps of live sources. What is known of the same source from the same moment on is
        replaced; one whose end is its begin is forgotten."""
        gap_rows.record(self.tables, gaps)
