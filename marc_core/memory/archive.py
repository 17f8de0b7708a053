"""A stored memory as an Archive: what a question needs of its events, and nothing of Ray."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.archive import SearchHit, TextLine, VideoLength
from marc_core.config import MethodConfig
from marc_core.embed.margin import stored_settings
from marc_core.errors import AnswerError, MissingFeaturesError, ModelLoadError
from marc_core.memory import retriever
from marc_core.memory.filters import is_in
from marc_core.memory.kept import Kept
from marc_core.memory.nothing import why_nothing
from marc_core.memory.store import MemoryStore
from marc_core.memory.tables import scan
from marc_core.models.checkpoints import local_directory
from marc_core.question import EventFilter, SearchQuery
from marc_core.types import VideoSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.compress import StoredFeatures
    from marc_core.video import IsolatedDecoder

_FRAME_S = 0.04
"""Length of a frame where the container tells no rate (our choice: 25 frames a second)."""


class MemoryArchive:
    """Events of a LanceDB memory. Implements `Archive`. Safe to use from several threads.

    config: of the questions; its student and stage-1 settings name the features that are read.
    """

    def __init__(self, store: MemoryStore, config: MethodConfig) -> None:
        self.store, self.config = store, config
        self._features_name: str | None = None
        self._decoder: IsolatedDecoder | None = None
        self._decoding = threading.Lock()
        self._kept = Kept(store.tables)

    def search(
        self,
        queries: Sequence[SearchQuery],
        vectors_QD: NDArray[np.float32],
        *,
        honest: bool = False,
    ) -> list[list[SearchHit]]:
        """Return the page of events that each query asks for, best first, without thumbnails.

        Raises MemoryStoreError for vectors of another encoder, AnswerError for a wrong filter.
        """
        blind = not self.encoder_knows_footage
        found = retriever.search(
            self.store, queries, vectors_QD, self.config.retrieve, only_synthetic=honest and blind
        )
        if not blind:
            return found
        return [
            [replace(hit, encoder_knows=hit.synthetic is not False) for hit in hits]
            for hits in found
        ]

    @cached_property
    def encoder_knows_footage(self) -> bool:
        """Whether the memory's encoder was trained on footage, as its marc.json says."""
        encoder = self.config.encoder
        try:
            directory = local_directory("encoder", encoder.model, encoder.revision, download=False)
        except ModelLoadError:  # one that is not here; who embeds with it says so
            return True
        return stored_settings(directory).footage

    def blind_videos(self) -> int:
        """Return how many visible videos are footage that the memory's encoder does not know."""
        if self.encoder_knows_footage:
            return 0
        return self._kept.get(("footage",), self._count_footage)

    def _count_footage(self) -> int:
        rows = scan(self.store.tables.videos, ["synthetic"], "num_events > 0")
        return sum(value is False for value in rows["synthetic"].to_pylist())

    def texts(self, event_ids: Sequence[str]) -> dict[str, list[TextLine]]:
        """Return the lines of text of these events in order of time, by event id."""
        names = ("kind", "start_s", "end_s", "text")
        found: dict[str, list[TextLine]] = {}
        for row in self.store.texts_of(event_ids).to_pylist():
            line = TextLine(**{name: row[name] for name in names})
            found.setdefault(row["event_id"], []).append(line)
        return found

    def vector_of(self, event_id: str) -> NDArray[np.float32]:
        """Return an event's (D,) unit vector. Raises AnswerError for one that nobody may see."""
        found = self.store.events_by_id([event_id], columns=["embedding"])
        if not found.num_rows:
            raise AnswerError(
                f"The memory has no event '{event_id}'. Take an event_id of a search's result."
            )
        vector_D = np.asarray(found["embedding"][0].as_py(), np.float32)
        unit_D: NDArray[np.float32] = vector_D / np.linalg.norm(vector_D)
        return unit_D

    def events(self, filter: EventFilter, *, limit: int) -> list[SearchHit]:
        """Return up to `limit` events that pass the filter: by uri, then in order of time."""
        return list(
            self._kept.get(
                ("events", filter, limit),
                lambda: retriever.events(self.store, filter, limit=limit),
            )
        )

    def why_nothing(self, filter: EventFilter) -> str:
        """Return in a sentence or two why no event passes the filter, and what there is instead."""
        return why_nothing(self.store, filter)

    def neighbours(self, hit: SearchHit) -> tuple[SearchHit | None, SearchHit | None]:
        """Return the events just before and after, where the recording goes on without a gap."""
        every = self.events(EventFilter(video_ids=(hit.video_id,)), limit=2**31)
        every.sort(key=lambda event: (event.start_s, event.event_id))
        keys = [event.event_id for event in every]
        if hit.event_id not in keys:
            return None, None
        here, frame_s = keys.index(hit.event_id), self._frame_s(hit.video_id)
        before = every[here - 1] if here else None
        after = every[here + 1] if here + 1 < len(every) else None
        return (
            before if before and abs(every[here].start_s - before.end_s) <= frame_s else None,
            after if after and abs(after.start_s - every[here].end_s) <= frame_s else None,
        )

    def count(self, filter: EventFilter) -> int:
        """Return how many events pass the filter; those of a version that is being replaced may
        count, too."""
        return self._kept.get(
            ("count", filter),
            lambda: int(self.store.tables.events.count_rows(self.store.condition(filter))),
        )

    def lengths(self, video_ids: Sequence[str]) -> dict[str, VideoLength]:
        """Return the lengths of these videos, by id; unknown ones are absent."""
        wanted = tuple(dict.fromkeys(video_ids))
        rows = self._kept.get(("lengths", wanted), lambda: self._video_rows(wanted))
        return {
            row["video_id"]: VideoLength(row["num_events"] or 0, row["duration_s"] or 0.0)
            for row in rows
        }

    def sample_vectors(self, most: int) -> NDArray[np.float32]:
        """Return (E, D) unit vectors of the first `most` events."""
        return self.store.some_embeddings(most)

    def features(
        self, hits: Sequence[SearchHit], *, max_tokens: int | None = None
    ) -> list[StoredFeatures]:
        """Return the student's features of the events, in order, on the CPU.

        max_tokens: read no more of a hierarchy than cuts up to so many tokens need. A memory that
        was indexed with the paper's groups gets its hierarchies made on the fly. Raises
        MissingFeaturesError.
        """
        ids = [hit.event_id for hit in hits]
        found = self.store.load_features(ids, self.features_name, max_tokens=max_tokens)
        missing = [event_id for event_id in ids if event_id not in found]
        if missing:  # each table is looked at anew by itself: the events' may be the newer one
            self.store.refresh()
            found |= self.store.load_features(missing, self.features_name, max_tokens=max_tokens)
            missing = [event_id for event_id in missing if event_id not in found]
        if missing and self.config.compress.mode == "tokens":
            found |= self._from_groups(missing)
            missing = [event_id for event_id in missing if event_id not in found]
        if missing:
            raise MissingFeaturesError(
                f"The memory holds no features of {len(missing)} of {len(hits)} events for student "
                f"'{self.config.student.model}' with these settings of compress. Run `marc index "
                "ARCHIVE --only features` with the settings of the question, or ask with those "
                "that the memory was indexed with.",
                missing,
            )
        return [found[event_id] for event_id in ids]

    def _from_groups(self, event_ids: Sequence[str]) -> dict[str, StoredFeatures]:
        from marc_core.compress import event_hierarchy
        from marc_core.types import EventFeatures

        compress = self.config.compress
        paper = replace(self.config, compress=replace(compress, mode="plain"))
        groups = self.store.load_features(event_ids, self._name(paper))
        return {
            event_id: event_hierarchy(event, max_tokens=compress.stored_tokens)
            for event_id, event in groups.items()
            if isinstance(event, EventFeatures)
        }

    def frames(self, hit: SearchHit) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return the frames that indexing sampled in the event, read again from the source.

        At most `student.max_frames` of them. Raises VideoError or SourceError.
        """
        from marc_core.frame_cap import cap_frames
        from marc_core.video import local_copy
        from marc_core.video.clock import repaired_by

        found = self.store.events_by_id([hit.event_id], columns=["frame_times_s"])
        row = self.store.get_video(hit.video_id)
        if row is None or not found.num_rows:
            raise AnswerError(f"The memory no longer has event '{hit.event_id}'. Search again.")
        stored_s = np.asarray(found["frame_times_s"][0].as_py(), np.float64)
        times_s = cap_frames(stored_s, self.config.student.max_frames)
        source = VideoSource.of_row(row)
        with self._decoding, local_copy(source, self.config.archive_options) as path:
            decoder = self._open_decoder()
            frames = decoder.read_frames(
                path,
                times_s.tolist(),
                stream=source.stream,
                repaired=repaired_by(row["warnings"] or ()),
            )
        return np.stack(frames), times_s

    def thumbnails(self, event_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the events' pictures as JPEG files, by event id; unknown events are absent."""
        columns = ["event_id", "thumbnail"]
        found = self.store.events_by_id(event_ids, columns=columns).to_pydict()
        return {key: data for key, data in zip(*found.values(), strict=True) if data}

    @property
    def features_name(self) -> str:
        """The fingerprint of the features that this archive's questions read."""
        if self._features_name is None:
            self._features_name = self._name(self.config)
        return self._features_name

    @staticmethod
    def _name(config: MethodConfig) -> str:
        from marc_core.fingerprints import features_name
        from marc_core.models.vision_tower import vision_fingerprint

        return features_name(vision_fingerprint(config.student), config)

    def close(self) -> None:
        """End the decoding process, if `frames` has started one."""
        with self._decoding:
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None

    def _open_decoder(self) -> IsolatedDecoder:
        if self._decoder is None:
            from marc_core.video import IsolatedDecoder

            self._decoder = IsolatedDecoder(self.config.video)
        return self._decoder

    def _frame_s(self, video_id: str) -> float:
        rows = self._kept.get(("lengths", (video_id,)), lambda: self._video_rows([video_id]))
        return 1.001 / rows[0]["fps"] if rows and rows[0]["fps"] else _FRAME_S

    def _video_rows(self, video_ids: Sequence[str]) -> list[dict[str, Any]]:
        columns = ["video_id", "num_events", "duration_s", "fps"]
        return list(
            scan(self.store.tables.videos, columns, is_in("video_id", video_ids)).to_pylist()
        )
