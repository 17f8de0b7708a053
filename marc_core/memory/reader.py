"""What may be read from a memory: rows, what readers may see of them, and its state.

Search is in `retriever`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.feature_rows import HEAD_TOKENS, read_features, tokens_a_row
from marc_core.filenames import names_a_stream, spellings
from marc_core.memory import (
    changes,
    embeddings,
    hiding,
    maintenance,
)
from marc_core.memory import gaps as gap_rows
from marc_core.memory.filters import filter_to_sql, is_in, quote
from marc_core.memory.kept import Kept, KeptRows
from marc_core.memory.tables import (
    Meta,
    Tables,
    check_encoder,
    column_names,
    meta_of,
    scan,
)
from marc_core.question import EventFilter

if TYPE_CHECKING:
    from marc_core.compress import StoredFeatures

STATES = (
    "video_id", "uri", "num_streams", "status", "attempts", "error_class",
    "cuts_fingerprint", "embeddings_fingerprint", "features_fingerprint", "texts_fingerprint",
    "clock_fingerprint",
)  # fmt: skip


class MemoryReader:
    """One open memory, as readers see it. Safe to use from several threads."""

    def __init__(self, tables: Tables, config: MemoryConfig) -> None:
        self.tables = tables
        self.config = config
        self._hidden = Kept(tables)
        self._visible: KeptRows[str] = KeptRows(tables.videos)

    @property
    def meta(self) -> Meta:
        """Format, embedding dimension and encoder of this memory."""
        return self.tables.meta

    def check_encoder(self, embedding_dim: int, encoder_fingerprint: str) -> None:
        """Raise MemoryStoreError where the memory's vectors are of another encoder than this."""
        check_encoder(self.meta, self.config.uri, embedding_dim, encoder_fingerprint)

    @property
    def is_outdated(self) -> bool:
        """Whether the vectors have become another encoder's since the memory was opened."""
        return meta_of(self.tables.events) != self.meta

    def refresh(self) -> None:
        """See at once what other processes have committed (otherwise within `refresh_s`)."""
        for table in self.tables.all().values():
            table.checkout_latest()

    def gaps(self) -> list[gap_rows.Gap]:
        """Return the gaps of live sources, in order of time."""
        return gap_rows.listed(self.tables)

    def condition(self, filter: EventFilter) -> str | None:
        """Return the condition on rows of `events` that pass a filter and are not hidden; None
        where all are."""
        hidden = self._hidden.get("hidden", lambda: hiding.count_hidden(self.tables))
        asked = filter_to_sql(filter, column_names(self.tables.events))
        parts = [asked, hiding.SHOWN if hidden else None]
        return " AND ".join(part for part in parts if part) or None

    def last_config(self) -> str | None:
        """Return the YAML of the configuration of the latest run with the memory's encoder."""
        runs = scan(self.tables.runs, ["run_id", "started_at", "config_yaml"]).sort_by("started_at")
        ours = f"@{self.meta.encoder_fingerprint}"
        for run_id, config_yaml in zip(
            *(reversed(runs[n].to_pylist()) for n in ("run_id", "config_yaml")), strict=True
        ):
            if "@" not in run_id or run_id.endswith(ours):
                return str(config_yaml)
        return None

    def video_states(self) -> pa.Table:
        """Return what a rerun needs to know of every video: id, uri, status, attempts,
        error_class and the four fingerprints."""
        self.refresh()
        return scan(self.tables.videos, STATES)

    def videos(
        self, *, status: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return rows of `videos`, ordered by uri, all or those with one status."""
        condition = None if status is None else f"status = {quote(status)}"
        names = list(columns or schemas.VIDEOS.names)
        found = scan(self.tables.videos, list(dict.fromkeys([*names, "uri"])), condition)
        return found.sort_by("uri").select(names)

    def failures(self) -> list[dict[str, Any]]:
        """Return the videos that are not indexed, with their reasons."""
        columns = ["video_id", "uri", "status", "error_class", "error_message", "attempts"]
        return [r for r in self.videos(columns=columns).to_pylist() if r["status"] != "indexed"]

    def get_video(self, id_or_uri: str) -> dict[str, Any] | None:
        """Return the `videos` row of an id, or the visible (else the latest) one of a uri."""
        rows = self._named(id_or_uri, schemas.VIDEOS.names)
        by_preference = sorted(
            rows,
            key=lambda r: (r["video_id"] == id_or_uri, bool(r["num_events"]), r["indexed_at"]),
        )
        return by_preference[-1] if by_preference else None

    def _named(self, id_or_uri: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the `videos` rows of an id or uri; else those of the uri's other spellings."""
        exact = f"video_id = {quote(id_or_uri)} OR uri = {quote(id_or_uri)}"
        rows = scan(self.tables.videos, columns, exact)
        if not rows.num_rows and "/" in id_or_uri:
            other = [uri for uri in spellings(id_or_uri) if not names_a_stream(uri)]
            rows = scan(self.tables.videos, columns, is_in("uri", other))
        return list(rows.to_pylist())

    def visible_uris(self, video_ids: Iterable[str]) -> dict[str, str]:
        """Return the uris of those videos whose events readers may see, by video_id."""
        return self._visible.of(sorted(set(video_ids)), self._read_visible)

    def _read_visible(self, video_ids: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(video_ids), changes.IDS_OF_A_FILTER):
            some = is_in("video_id", video_ids[start : start + changes.IDS_OF_A_FILTER])
            visible = f"{some} AND num_events > 0"
            rows = scan(self.tables.videos, ["video_id", "uri"], visible)
            found.update(zip(*rows.to_pydict().values(), strict=True))
        return found

    def events_by_id(self, event_ids: Sequence[str], *, columns: Sequence[str]) -> pa.Table:
        """Return these columns of the events that readers may see, in no order."""
        wanted = list(dict.fromkeys([*columns, "video_id"]))
        found = scan(self.tables.events, wanted, is_in("event_id", event_ids))
        visible = self.visible_uris(found["video_id"].to_pylist())
        is_visible = pc.is_in(found["video_id"], pa.array(list(visible), pa.string()))
        return found.filter(is_visible).select(list(columns))

    def events_of(self, video_id: str, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a video's events in order of time; no rows when it is unknown or not visible."""
        schema = schemas.events_schema(self.meta.embedding_dim)
        names = list(columns or schema.names)
        if not self.visible_uris([video_id]):
            return pa.schema([schema.field(n) for n in names]).empty_table()
        wanted = list(dict.fromkeys([*names, "event_id"]))
        found = scan(self.tables.events, wanted, f"video_id = {quote(video_id)}")
        return found.sort_by("event_id").select(names)

    def some_embeddings(self, most: int) -> NDArray[np.float32]:
        """Return (E, D) unit vectors of at most `most` events, whichever come first."""
        with self.tables.same_encoder():
            found = self.tables.events.search().select(["embedding"]).limit(most).to_arrow()
        flat = found["embedding"].combine_chunks().flatten().to_numpy()
        vectors_ED = flat.reshape(-1, self.meta.embedding_dim)
        unit_ED: NDArray[np.float32] = vectors_ED / np.linalg.norm(
            vectors_ED, axis=1, keepdims=True
        )
        return unit_ED

    def texts_of(self, event_ids: Sequence[str]) -> pa.Table:
        """Return all texts of these events, ordered by event and start."""
        found = scan(self.tables.texts, schemas.TEXTS.names, is_in("event_id", event_ids))
        return found.sort_by([(n, "ascending") for n in ("event_id", "start_s", "text_id")])

    def load_features(
        self, event_ids: Sequence[str], fingerprint: str, *, max_tokens: int | None = None
    ) -> dict[str, StoredFeatures]:
        """Return the features of these events under one name; events without any are absent.

        max_tokens: of a hierarchy, read no more than cuts up to so many tokens need.
        """
        pieces = (0,) if max_tokens is not None and max_tokens <= HEAD_TOKENS else (0, 1)
        keys = [schemas.make_feature_id(e, fingerprint, p) for e in event_ids for p in pieces]
        found = scan(self.tables.features, schemas.FEATURES.names, is_in("feature_id", keys))
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in found.to_pylist():
            rows.setdefault(row["event_id"], []).append(row)
        return {event_id: read_features(own) for event_id, own in rows.items()}

    def count_tokens(self, video_ids: Sequence[str]) -> int:
        """Return the visual tokens stored in the features of these videos."""
        columns, total = ["num_rows", "layout", "grid_h", "grid_w"], 0
        for start in range(0, len(video_ids), changes.IDS_OF_A_FILTER):
            some = is_in("video_id", video_ids[start : start + changes.IDS_OF_A_FILTER])
            found = scan(self.tables.features, columns, some).to_pydict()
            rows = zip(*found.values(), strict=True)
            total += sum(n * tokens_a_row(layout, h, w) for n, layout, h, w in rows)
        return total

    def status(self) -> dict[str, Any]:
        """Return counts by status, failures by class, hours, events, bytes, indexes, versions."""
        self.refresh()
        return maintenance.status(self.tables) | {"staged": embeddings.staged(self.tables)}
