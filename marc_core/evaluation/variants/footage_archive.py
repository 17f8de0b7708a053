"""Videos in memory as an Archive: what an evaluation asks in place of a stored memory.

    Footage (frames, events) --text encoder--> vectors      once for all variants
                             --vision tower--> encodings    once for each tower and frames
                             --stage 1-------> features     as `marc index` stores them

A question takes the same way over it as over a LanceDB memory (`Preparer`), and gets the same
Evidence. `sampled` is the other way in, for variants that choose frames for each question: the
teacher, and baselines that act before the vision tower.

Letters: S sampled frames, E events, D channels, Q queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from marc_core.archive import SearchHit, TextLine, VideoLength
from marc_core.compress import stored_form
from marc_core.config import CompressConfig, fingerprint
from marc_core.errors import AnswerError
from marc_core.frame_cap import cap_frames
from marc_core.indexing import event_embedding, thumbnail
from marc_core.prepared import Chosen, Uncut
from marc_core.schemas import make_event_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.compress import StoredFeatures
    from marc_core.embed import DualEncoder
    from marc_core.evaluation.variants.footage import Footage
    from marc_core.models.vision_tower import VisionTower
    from marc_core.question import EventFilter, SearchQuery
    from marc_core.types import EventFeatures

Frames = list[tuple[str, "NDArray[np.int64]"]]
"""(event id, positions of frames) of one grid row each."""


class Encodings:
    """What towers made of frames, kept for as long as a video is asked about.

    seconds: what each encoding cost, by its key, so that a variant's time does not depend on who
    asked first.
    """

    def __init__(self) -> None:
        self.features: dict[str, EventFeatures] = {}
        self.seconds: dict[str, float] = {}

    def get(
        self, tower: VisionTower, rows: Sequence[tuple[str, Callable[[], Any]]]
    ) -> list[EventFeatures]:
        """Return the uncompressed features of rows given as (key, maker of (frames, times_s));
        those that are not there are encoded in one call."""
        missing = {key: make for key, make in rows if key not in self.features}
        if missing:
            started = time.perf_counter()
            with torch.inference_mode():
                made = tower.encode_events([make() for make in missing.values()])
            each_s = (time.perf_counter() - started) / len(missing)
            self.features |= zip(missing, made, strict=True)
            self.seconds |= dict.fromkeys(missing, each_s)
        return [self.features[key] for key, _ in rows]


class FootageArchive:
    """Events of videos in memory, in order. Implements `Archive`.

    tower, compress, max_frames: what its features are made with, as `marc index` is configured.
    encoder: None where nobody searches.
    """

    def __init__(
        self,
        footage: Sequence[Footage],
        *,
        encoder: DualEncoder | None,
        tower: VisionTower,
        compress: CompressConfig,
        max_frames: int,
        encodings: Encodings | None = None,
        vectors_ED: NDArray[np.float32] | None = None,
    ) -> None:
        self.footage, self.tower, self.encoder = footage, tower, encoder
        self.compress, self.max_frames = compress, max_frames
        self.encodings = Encodings() if encodings is None else encodings
        self.hits = [hit for f in footage for hit in _hits(f)]
        self._row = {hit.event_id: row for row, hit in enumerate(self.hits)}
        self._where = [(f, i) for f in footage for i in range(len(f.spans))]
        self._vectors_ED = vectors_ED
        self._stored: dict[str, StoredFeatures] = {}

    def using(
        self, *, tower: VisionTower, compress: CompressConfig, max_frames: int
    ) -> FootageArchive:
        """Return the same videos with features made otherwise; vectors and encodings are shared."""
        vectors_ED = self.vectors_ED if self.encoder is not None else None
        return FootageArchive(
            self.footage,
            encoder=self.encoder,
            tower=tower,
            compress=compress,
            max_frames=max_frames,
            encodings=self.encodings,
            vectors_ED=vectors_ED,
        )

    # Archive

    @property
    def vectors_ED(self) -> NDArray[np.float32]:
        """(E, D) unit vectors of all events."""
        if self._vectors_ED is None:
            assert self.encoder is not None, "an archive that is searched needs the encoder"
            frames = {id(f): _embeddings(f, self.encoder) for f in self.footage}
            self._vectors_ED = np.stack(
                [event_embedding(frames[id(f)][f.positions[i]]) for f, i in self._where]
            )
        return self._vectors_ED

    def search(
        self,
        queries: Sequence[SearchQuery],
        vectors_QD: NDArray[np.float32],
        *,
        honest: bool = False,
    ) -> list[list[SearchHit]]:
        """Return the events nearest to each query, ties to the smaller id."""
        found = []
        for query, vector_D in zip(queries, vectors_QD, strict=True):
            cosine_E = self.vectors_ED @ vector_D  # one at a time: bits do not depend on the rest
            passing = [i for i, hit in enumerate(self.hits) if passes(query.filter, hit)]
            passing.sort(key=lambda i: (-float(cosine_E[i]), self.hits[i].event_id))
            page = passing[query.offset : query.offset + query.limit]
            scores = [float(cosine_E[i]) for i in page]
            found.append(
                [
                    replace(self.hits[i], score=s, cosine=s)
                    for i, s in zip(page, scores, strict=True)
                ]
            )
        return found

    def texts(self, event_ids: Sequence[str]) -> dict[str, list[TextLine]]:
        """Return nothing: footage that is held in memory has frames alone."""
        return {}

    def vector_of(self, event_id: str) -> NDArray[np.float32]:
        """Return an event's (D,) unit vector. Raises AnswerError for an unknown event."""
        if event_id not in self._row:
            raise AnswerError(f"The footage has no event '{event_id}'. `events` lists what it has.")
        vector_D: NDArray[np.float32] = self.vectors_ED[self._row[event_id]]
        return vector_D

    def events(self, filter: EventFilter, *, limit: int) -> list[SearchHit]:
        """Return up to `limit` events that pass the filter, in order of time in each video."""
        return [hit for hit in self.hits if passes(filter, hit)][:limit]

    def why_nothing(self, filter: EventFilter) -> str:
        """Return that no event passes."""
        return "No event of this footage passes the filters."

    def neighbours(self, hit: SearchHit) -> tuple[SearchHit | None, SearchHit | None]:
        """Return the events just before and after in the same video."""
        row = self._row[hit.event_id]
        around = [self.hits[i] if 0 <= i < len(self.hits) else None for i in (row - 1, row + 1)]
        before, after = (h if h and h.video_id == hit.video_id else None for h in around)
        return before, after

    def features(
        self, hits: Sequence[SearchHit], *, max_tokens: int | None = None
    ) -> list[StoredFeatures]:
        """Return features as indexing makes them; an event is encoded, and its form made, once."""
        missing = [hit for hit in hits if hit.event_id not in self._stored]
        rows = [(h.event_id, cap_frames(self._positions(h), self.max_frames)) for h in missing]
        with torch.inference_mode():
            made = [stored_form(f, self.compress) for f in self._encoded(rows, 0)]
        self._stored |= {h.event_id: f for h, f in zip(missing, made, strict=True)}
        return [self._stored[hit.event_id] for hit in hits]

    def count(self, filter: EventFilter) -> int:
        """Return how many events pass the filter."""
        return sum(passes(filter, hit) for hit in self.hits)

    def lengths(self, video_ids: Sequence[str]) -> dict[str, VideoLength]:
        """Return the lengths of these videos, by id; unknown ones are absent."""
        return {
            f.video_id: VideoLength(len(f.spans), f.spans[-1][1] - f.start_s)
            for f in self.footage
            if f.video_id in video_ids
        }

    def sample_vectors(self, most: int) -> NDArray[np.float32]:
        """Return (E, D) unit vectors of the first `most` events."""
        return self.vectors_ED[:most]

    def frames(self, hit: SearchHit) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return an event's sampled frames and their times."""
        footage, _ = self._where[self._row[hit.event_id]]
        positions = self._positions(hit)
        return footage.frames_SHWC[positions], footage.times_S[positions]

    def thumbnails(self, event_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the middle frame of each event as a JPEG."""
        found = {}
        for event_id in event_ids:
            if event_id in self._row:
                frames_FHWC, _ = self.frames(self.hits[self._row[event_id]])
                found[event_id] = thumbnail(frames_FHWC[len(frames_FHWC) // 2])
        return found

    # Frames chosen for each question

    def sampled(
        self,
        chosen: Chosen,
        *,
        most_frames: int,
        pick: Callable[[Frames], Frames] = lambda frames: frames,
        shrink_to: Callable[[Frames], int] = lambda frames: 0,
    ) -> Uncut:
        """Return the question's events with the features of at most `most_frames` of their frames,
        spread evenly over all of them, without stage 1.

        pick: chooses among those frames and forms the grid rows. shrink_to: pixels of a frame
        for the picked ones, 0 for frames as they are.
        """
        capped = self._capped(chosen.hits, most_frames)
        picked = pick(capped)
        pixels = shrink_to(capped)
        keys = [self._key(event_id, positions, pixels) for event_id, positions in picked]
        features = tuple(self._encoded(picked, pixels))
        vision_s = sum(self.encodings.seconds[key] for key in keys)
        return Uncut(
            chosen=chosen,
            features=features,
            origin="decoded",
            source_tokens=self.tokens_a_group() * self.num_groups(capped),
            timings_s={"vision": vision_s},
        )

    def vision_s(self, hits: Sequence[SearchHit]) -> float:
        """Return what the tower took for the features of these events."""
        rows = [(h.event_id, cap_frames(self._positions(h), self.max_frames)) for h in hits]
        return sum(self.encodings.seconds.get(self._key(e, p, 0), 0.0) for e, p in rows)

    def tokens_a_group(self) -> int:
        """Return the visual tokens of a group of full-size frames."""
        from marc_core.models.preprocess import smart_resize

        height, width = self.footage[0].frames_SHWC.shape[1:3]
        unit, most = self.tower.pixels.unit, self.tower.config.frame_max_pixels
        h, w = smart_resize(height, width, unit=unit, max_pixels=most)
        return int((h // unit) * (w // unit))

    def num_groups(self, frames: Frames) -> int:
        """Return the temporal groups of these frames, of which none straddles two events."""
        return sum(-(-len(p) // self.tower.pixels.temporal_patch) for _, p in frames)

    def _capped(self, hits: Sequence[SearchHit], most: int) -> Frames:
        """At most `most` frames of these events, evenly; events left without one drop out."""
        positions = [self._positions(h) for h in hits]
        owner = np.repeat(np.arange(len(hits)), [len(p) for p in positions])
        kept = cap_frames(np.arange(len(owner)), most)
        frames, owner = np.concatenate(positions)[kept], owner[kept]
        return [(h.event_id, frames[owner == i]) for i, h in enumerate(hits) if (owner == i).any()]

    def _positions(self, hit: SearchHit) -> NDArray[np.int64]:
        footage, index = self._where[self._row[hit.event_id]]
        return footage.positions[index]

    def _key(self, event_id: str, positions: NDArray[np.int64], pixels: int) -> str:
        return fingerprint(self.tower.fingerprint, event_id, positions.tolist(), pixels)

    def _encoded(self, rows: Frames, pixels: int) -> list[EventFeatures]:
        def maker(event_id: str, positions: NDArray[np.int64]) -> Callable[[], Any]:
            return lambda: self._pictures(event_id, positions, pixels)

        return self.encodings.get(
            self.tower, [(self._key(e, p, pixels), maker(e, p)) for e, p in rows]
        )

    def _pictures(
        self, event_id: str, positions: NDArray[np.int64], pixels: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        from marc_core.evaluation.variants.baselines import shrink

        footage, _ = self._where[self._row[event_id]]
        frames = footage.frames_SHWC[positions]
        if pixels:
            frames = shrink(frames, pixels, self.tower.pixels.unit)
        return frames, footage.times_S[positions]


def passes(filter: EventFilter, hit: SearchHit) -> bool:
    """Return whether an event passes; cameras, tags, wall clocks and texts are not known of it."""
    start_s, end_s = hit.start_s - hit.video_start_s, hit.end_s - hit.video_start_s
    folder = None if filter.folder is None else filter.folder.rstrip("/") + "/"
    return (
        (filter.video_ids is None or hit.video_id in filter.video_ids)
        and (folder is None or hit.uri.startswith(folder))
        and (filter.start_s is None or end_s > filter.start_s)
        and (filter.end_s is None or start_s < filter.end_s)
        and filter.camera is None
        and not filter.tags
        and filter.recorded_from is None
        and filter.recorded_to is None
        and not filter.kinds
    )


def _hits(footage: Footage) -> list[SearchHit]:
    return [
        SearchHit(
            event_id=make_event_id(footage.video_id, 0, index),
            video_id=footage.video_id,
            uri=footage.uri,
            part=0,
            index=index,
            start_s=start_s,
            end_s=end_s,
            video_start_s=footage.start_s,
        )
        for index, (start_s, end_s) in enumerate(footage.spans)
    ]


def _embeddings(footage: Footage, encoder: DualEncoder) -> NDArray[np.float32]:
    if footage.embeddings_SD is not None:
        return footage.embeddings_SD
    return encoder.encode_images(footage.frames_SHWC)
