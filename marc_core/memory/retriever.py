"""The Visual Memory Retriever: the events nearest to a question (paper, section 3.1).

Honest differences from the paper: events are found in a whole archive, not in one video; filters
restrict the search before ranking, never after; where events have text, vector and full-text
ranks are fused (Cormack et al. 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.config import RetrieveConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory.filters import EventFilter, is_in
from marc_core.memory.store import MemoryStore
from marc_core.memory.tables import scan
from marc_core.types import SearchHit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FUSED_CANDIDATES = 50
"""Length of each ranking that is fused, or 10 k when that is more (our choice)."""
_WIDEN = 4
"""Factor by which a search is widened when hidden events took places (our choice)."""
_COLUMNS = ["event_id", "video_id", "index", "start_s", "end_s", "text"]


def search(
    store: MemoryStore,
    query_vector: NDArray[np.float32],
    *,
    text: str | None = None,
    k: int | None = None,
    config: RetrieveConfig,
    filters: EventFilter | None = None,
) -> list[SearchHit]:
    """Return the `k` (default `config.k`) best visible events that pass `filters`, best first.

    query_vector: (D,) in the events' embedding space, any length but zero. Scores are cosines;
    with `text`, `config.hybrid` and at least one event whose text matches, they are reciprocal
    rank fusion scores instead. Fewer hits when fewer events pass. Raises MemoryStoreError for a
    vector of another dimension, not finite or zero.
    """
    wanted = config.k if k is None else k
    _check_query(query_vector, store.meta.embedding_dim)
    where = (filters or EventFilter()).to_sql()
    depth = wanted
    while True:
        ranked = _rank(store, query_vector, text if config.hybrid else None, depth, config, where)
        uris = store.visible_uris(row["video_id"] for row in ranked)
        visible = [row for row in ranked if row["video_id"] in uris]
        if len(visible) >= wanted or len(ranked) < depth:
            break
        depth *= _WIDEN
    best = _with_thumbnails(store, visible[:wanted])
    return [_hit(row, uris[row["video_id"]]) for row in best]


def chronological(hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Return the hits in order of time within each video (paper, section 3.1).

    Videos share no clock: they keep the order of their best hit.
    """
    order = {v: i for i, v in enumerate(dict.fromkeys(hit.video_id for hit in hits))}
    return sorted(hits, key=lambda hit: (order[hit.video_id], hit.start_s, hit.index))


def fuse(rankings: Sequence[Sequence[str]], rrf_k: int) -> list[tuple[str, float]]:
    """Return ids with score sum 1 / (rrf_k + rank) over the rankings, rank from 1, best first.

    Ids of equal score keep the order in which the rankings name them, the first ranking first.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (rrf_k + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def _rank(
    store: MemoryStore,
    vector_D: NDArray[np.float32],
    text: str | None,
    depth: int,
    config: RetrieveConfig,
    where: str | None,
) -> list[dict[str, Any]]:
    """Return up to `depth` rows with a `score`, hidden events included."""
    by_text = _by_text(store, text, max(10 * depth, _FUSED_CANDIDATES), where) if text else []
    if not by_text:
        return _by_vector(store, vector_D, depth, where, columns=[*_COLUMNS, "thumbnail"])
    by_vector = _by_vector(store, vector_D, max(10 * depth, _FUSED_CANDIDATES), where)
    rows = {row["event_id"]: row for row in [*by_text, *by_vector]}
    rankings = [[row["event_id"] for row in found] for found in (by_vector, by_text)]
    fused = fuse(rankings, config.rrf_k)[:depth]
    return [{**rows[key], "score": score} for key, score in fused]


def _by_vector(
    store: MemoryStore,
    vector_D: NDArray[np.float32],
    limit: int,
    where: str | None,
    *,
    columns: Sequence[str] = _COLUMNS,
) -> list[dict[str, Any]]:
    query = (
        store.tables.events.search(vector_D.astype(np.float32), vector_column_name="embedding")
        .distance_type("cosine")
        .nprobes(store.config.nprobes)
        .refine_factor(store.config.refine_factor)
    )
    if where is not None and _is_narrow(store, where):
        query = query.bypass_vector_index()
    found = _run(query, [*columns, "_distance"], limit, where)
    found.sort(key=lambda row: (row["_distance"], row["event_id"]))
    return [{**row, "score": 1.0 - row["_distance"]} for row in found]


def _is_narrow(store: MemoryStore, where: str) -> bool:
    """Return whether so few events pass that all of them are compared, without the vector index.

    The index searches the partitions nearest to the question, and the few events that pass may
    lie in others (measured at 10^6 rows, 20 of 20,000 videos: recall@3 0.68 with the index).
    """
    return int(store.tables.events.count_rows(where)) <= store.config.vector_index_rows


def _by_text(store: MemoryStore, text: str, limit: int, where: str | None) -> list[dict[str, Any]]:
    query = store.tables.events.search(text, query_type="fts", fts_columns="text")
    found = _run(query, [*_COLUMNS, "_score"], limit, where)
    found.sort(key=lambda row: (-row["_score"], row["event_id"]))
    return found


def _run(query: Any, columns: list[str], limit: int, where: str | None) -> list[dict[str, Any]]:
    if where is not None:
        query = query.where(where, prefilter=True)
    return list(query.select(columns).limit(limit).to_arrow().to_pylist())


def _with_thumbnails(store: MemoryStore, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that carry thumbnails; of a fused ranking, only the chosen rows' are read."""
    missing = [row["event_id"] for row in rows if "thumbnail" not in row]
    if not missing:
        return rows
    found = scan(store.tables.events, ["event_id", "thumbnail"], is_in("event_id", missing))
    thumbnails = dict(zip(*found.to_pydict().values(), strict=True))
    return [{"thumbnail": thumbnails.get(row["event_id"]), **row} for row in rows]


def _hit(row: dict[str, Any], uri: str) -> SearchHit:
    return SearchHit(
        event_id=row["event_id"],
        video_id=row["video_id"],
        uri=uri,
        index=row["index"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        score=float(row["score"]),
        text=row["text"],
        thumbnail=row["thumbnail"] or b"",
    )


def _check_query(vector_D: NDArray[np.float32], embedding_dim: int) -> None:
    if vector_D.shape != (embedding_dim,):
        raise MemoryStoreError(
            f"The query vector must have shape ({embedding_dim},), as the memory's embeddings. "
            f"Got {vector_D.shape}: use the encoder the memory was indexed with."
        )
    norm = float(np.linalg.norm(vector_D))
    if not math.isfinite(norm) or norm == 0:
        raise MemoryStoreError(f"The query vector must be finite and not zero. Got norm {norm}.")
