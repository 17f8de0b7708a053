"""The Visual Memory Retriever: the events nearest to a question (paper, section 3.1).

    queries --group by filter--> nearest vectors of all of them in one pass ──┐
            --text of each-----> exact matches, matches of some words ────────┴─> ranks fused
                                                                                  │ tiers of 10, 40,
                                        page <── visible events, no event twice <─┘ 160, ... hits

Honest differences from the paper: events are found in a whole archive, not in one video; filters
restrict the search before ranking, never after; where events have text, ranks of vectors and of
text are fused (Cormack et al. 2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from lancedb.query import FullTextOperator, MatchQuery, PhraseQuery

from marc_core.archive import SearchHit
from marc_core.config import RetrieveConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory.filters import is_in
from marc_core.memory.hiding import SHOWN
from marc_core.memory.store import MemoryStore
from marc_core.memory.tables import column_names, has_text_index, missing_columns, scan
from marc_core.question import EventFilter, SearchQuery
from marc_core.text.matching import phrase_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_TIER = 10
_WIDEN = 4
"""A ranking is made 10 hits deep, and four times as deep where a page, or events that are not
visible, need more (our choice). Each tier only adds below the one before it, so pages of any size
show one order, no event twice and none left out. A query that is not paged starts at its limit."""
_CANDIDATES = 10
"""Length of each ranking that is fused, as a multiple of the tier (our choice)."""
HIT_COLUMNS = [
    "event_id", "video_id", "part", "index", "start_s", "end_s", "video_start_s", "recorded_from",
    "recorded_to", "camera", "tags", "text", "synthetic",
]  # fmt: skip
_SYNTHETIC = "(synthetic IS NULL OR synthetic)"
"""Events that are not known to be footage."""
_PHRASE: Any = PhraseQuery
_WORDS: Any = MatchQuery
"""Their stubs ask for every argument that has a default."""
Row = dict[str, Any]


def search(
    store: MemoryStore,
    queries: Sequence[SearchQuery],
    vectors_QD: NDArray[np.float32],
    config: RetrieveConfig,
    *,
    only_synthetic: bool = False,
) -> list[list[SearchHit]]:
    """Return each query's page of the best visible events that pass its filter, best first.

    vectors_QD: (Q, D) in the events' embedding space, any length but zero. `score` is the cosine;
    with a text, `config.hybrid` and at least one event whose text matches, it is the reciprocal
    rank fusion score instead. Every hit carries its cosine. only_synthetic: vectors find synthetic
    videos' events alone, others their text does; without a text it has no effect. "More
    like this" leaves out the event that was named. Raises MemoryStoreError for a vector of another
    dimension, not finite or zero,
    and where the memory's vectors became another encoder's since it was opened; AnswerError for a
    filter that breaks a rule.
    """
    assert len(queries) == len(vectors_QD), "one vector a query"
    with store.tables.same_encoder():
        return _search(store, queries, vectors_QD, config, only_synthetic)


def _search(
    store: MemoryStore,
    queries: Sequence[SearchQuery],
    vectors_QD: NDArray[np.float32],
    config: RetrieveConfig,
    only_synthetic: bool,
) -> list[list[SearchHit]]:
    for vector_D in vectors_QD:
        _check_query(vector_D, store.meta.embedding_dim)
    names = column_names(store.tables.events)
    known = _SYNTHETIC if only_synthetic and "synthetic" in names else None
    rankings = [
        _Ranking(
            query,
            vector_D.astype(np.float32),
            store.condition(query.filter),
            config.hybrid,
            known if query.text is not None else None,
        )
        for query, vector_D in zip(queries, vectors_QD, strict=True)
    ]
    whole = [query.limit + query.offset for query in queries if not query.paged]
    depth = max([_FIRST_TIER, *whole] if len(whole) == len(queries) else [_FIRST_TIER])
    open_ = rankings
    while open_:
        ranked = _rank(store, open_, depth, config)
        uris = store.visible_uris(row["video_id"] for rows in ranked for row in rows)
        for ranking, rows in zip(open_, ranked, strict=True):
            ranking.extend(rows, uris, depth)
        open_ = [ranking for ranking in open_ if not ranking.complete]
        depth *= _WIDEN
    for ranking in rankings:
        _add_cosines(store, ranking)
    return [[_hit(row) for row in ranking.page] for ranking in rankings]


def events(store: MemoryStore, filter: EventFilter, *, limit: int) -> list[SearchHit]:
    """Return up to `limit` visible events that pass the filter: by uri, then by time."""
    where = store.condition(filter)
    found = scan(store.tables.events, ["event_id", "video_id"], where).to_pydict()
    uris = store.visible_uris(found["video_id"])
    named = zip(found["event_id"], found["video_id"], strict=True)
    order = sorted((uris[video_id], event_id) for event_id, video_id in named if video_id in uris)
    rows = {row["event_id"]: row for row in _rows(store, [key for _, key in order[:limit]])}
    ordered = [(rows[key], uri) for uri, key in order[:limit] if key in rows]
    return [_hit({**row, "uri": uri, "score": 1.0}) for row, uri in ordered]


def fuse(rankings: Sequence[Sequence[str]], rrf_k: int) -> list[tuple[str, float]]:
    """Return ids with score sum 1 / (rrf_k + rank) over the rankings, rank from 1, best first.

    Ids of equal score keep the order in which the rankings name them, the first ranking first.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (rrf_k + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


@dataclass
class _Ranking:
    """One query on its way to its page. known: the condition on events that vectors may find, None:
    all. said: what its text finds, once that is all of it."""

    query: SearchQuery
    vector_D: NDArray[np.float32]
    where: str | None
    hybrid: bool
    known: str | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    exhausted: bool = False
    said: list[list[Row]] | None = None

    @property
    def text(self) -> str | None:
        """What the full-text search looks for."""
        text = (self.query.text or "").encode(errors="replace").decode().strip()
        return text or None if self.hybrid else None

    @property
    def seen_where(self) -> str | None:
        """The condition on events that vectors may find."""
        return " AND ".join(part for part in (self.where, self.known) if part) or None

    @property
    def complete(self) -> bool:
        """Whether the page is known."""
        return self.exhausted or len(self.rows) >= self.query.offset + self.query.limit

    @property
    def page(self) -> list[Row]:
        """The rows that the query asked for."""
        return list(self.rows.values())[self.query.offset :][: self.query.limit]

    def extend(self, rows: list[Row], uris: dict[str, str], depth: int) -> None:
        """Add a deeper tier's visible rows behind those that are there."""
        for row in rows:
            if row["video_id"] in uris and row["event_id"] != self.query.event_id:
                self.rows.setdefault(row["event_id"], {**row, "uri": uris[row["video_id"]]})
        self.exhausted = len(rows) < depth


def _rank(
    store: MemoryStore, rankings: Sequence[_Ranking], depth: int, config: RetrieveConfig
) -> list[list[Row]]:
    """Return up to `depth` rows with a `score` for each query, hidden events included."""
    candidates = _CANDIDATES * depth
    texts = [_said(store, ranking, candidates) for ranking in rankings]
    limits = [candidates if any(found) else depth for found in texts]
    nearest = _by_vector(store, rankings, limits)
    ranked = []
    for by_text, by_vector in zip(texts, nearest, strict=True):
        if not any(by_text):
            ranked.append([{**row, "score": row["cosine"]} for row in by_vector])
            continue
        rows: dict[str, Row] = {}
        for row in [*by_vector, *(row for found in by_text for row in found)]:
            rows[row["event_id"]] = rows.get(row["event_id"], {}) | row
        orders = [[row["event_id"] for row in found] for found in [*by_text, by_vector]]
        fused = fuse(orders, config.rrf_k)[:depth]
        ranked.append([{**rows[key], "score": score} for key, score in fused])
    return ranked


def _said(store: MemoryStore, ranking: _Ranking, limit: int) -> list[list[Row]]:
    """Return what a ranking's text finds; not again for a deeper tier, where it was everything."""
    if ranking.said is not None:
        return ranking.said
    text = ranking.text
    found = _by_text(store, text, limit, ranking.where, ranking.query.filter.kinds) if text else []
    if all(len(rows) < limit for rows in found):
        ranking.said = found
    return found


def _by_vector(
    store: MemoryStore, rankings: Sequence[_Ranking], limits: Sequence[int]
) -> list[list[Row]]:
    """Return each query's nearest rows; queries with one filter and limit share one pass."""
    groups: dict[tuple[str | None, int], list[int]] = {}
    for i, (ranking, limit) in enumerate(zip(rankings, limits, strict=True)):
        groups.setdefault((ranking.seen_where, limit), []).append(i)
    nearest: list[list[Row]] = [[] for _ in rankings]
    for (where, limit), members in groups.items():
        vectors_QD = [rankings[i].vector_D for i in members]
        named = ["query_index"] if len(members) > 1 else []  # LanceDB names queries of a batch only
        query = (
            store.tables.events.search(vectors_QD, vector_column_name="embedding")
            .distance_type("cosine")
            .nprobes(store.config.nprobes)
            .refine_factor(store.config.refine_factor)
        )
        if where not in (None, SHOWN) and _is_narrow(store, where):
            query = query.bypass_vector_index()
        for row in _run(query, [*_columns(store), "_distance", *named], limit, where):
            row["cosine"] = 1.0 - row.pop("_distance")
            nearest[members[row.pop("query_index", 0)]].append(row)
    for rows in nearest:
        rows.sort(key=lambda row: (-row["cosine"], row["event_id"]))
    return nearest


def _is_narrow(store: MemoryStore, where: str) -> bool:
    """Return whether so few events pass that all of them are compared, without the vector index.

    The index searches the partitions nearest to the question, and the few events that pass may
    lie in others (measured at 10^6 rows, 20 of 20,000 videos: recall@3 0.68 with the index).
    """
    return int(store.tables.events.count_rows(where)) <= store.config.vector_index_rows


def _by_text(
    store: MemoryStore, text: str, limit: int, where: str | None, kinds: Sequence[str] = ()
) -> list[list[Row]]:
    """Return the events whose text matches exactly, and those that hold some of the words.

    Exactly: all words of the query occur, in double quotes next to each other and in this order.
    An exact match is in both rankings, so it comes before any picture that nothing is said in;
    some of the words alone are worth as much as a picture of the same rank. kinds: words are looked
    for in single texts of these kinds.
    """
    in_lines = bool(kinds) and has_text_index(store.tables.texts)
    find = partial(_line_rows, kinds=kinds) if in_lines else _text_rows
    phrase = phrase_of(text)
    if phrase is not None:
        try:
            found = find(store, _PHRASE(phrase, "text"), limit, where)
            return [found, found]
        except ValueError as error:
            if "position is not found" not in str(error):
                raise  # an index without positions, as others build it, knows words only
    every = _WORDS(text, "text", operator=FullTextOperator.AND)
    some = find(store, _WORDS(text, "text"), limit, where)
    return [find(store, every, limit, where) if some else [], some]


def _text_rows(store: MemoryStore, query: Any, limit: int, where: str | None) -> list[Row]:
    builder = store.tables.events.search(query, query_type="fts", fts_columns="text")
    found = _run(builder, [*_columns(store), "_score"], limit, where)
    for row in found:
        row["text_score"] = row.pop("_score")
    found.sort(key=lambda row: (-row["text_score"], row["event_id"]))
    return found


def _line_rows(
    store: MemoryStore, query: Any, limit: int, where: str | None, *, kinds: Sequence[str]
) -> list[Row]:
    """Return the events of which a text of these kinds matches, scored by the best one.

    The filter is on events, so lines are looked up four times as deep until enough events pass.
    """
    depth = limit
    while True:
        builder = store.tables.texts.search(query, query_type="fts", fts_columns="text")
        lines = _run(builder, ["event_id", "_score"], depth, is_in("kind", kinds))
        best: dict[str, float] = {}
        for line in lines:
            best[line["event_id"]] = max(best.get(line["event_id"], 0.0), line["_score"])
        rows = [
            {**row, "text_score": best[row["event_id"]]} for row in _rows(store, list(best), where)
        ]
        if len(rows) >= limit or len(lines) < depth:
            rows.sort(key=lambda row: (-row["text_score"], row["event_id"]))
            return rows[:limit]
        depth *= _WIDEN


def _columns(store: MemoryStore) -> list[str]:
    """Return the columns of a hit that the table has."""
    absent = {field.name for field in missing_columns(store.tables.events)}
    return [name for name in HIT_COLUMNS if name not in absent]


def _run(query: Any, columns: list[str], limit: int, where: str | None) -> list[Row]:
    if where is not None:
        query = query.where(where, prefilter=True)
    return list(query.select(columns).limit(limit).to_arrow().to_pylist())


def _rows(store: MemoryStore, event_ids: Sequence[str], where: str | None = None) -> Iterable[Row]:
    for start in range(0, len(event_ids), 1000):
        some = is_in("event_id", event_ids[start : start + 1000])
        some = some if where is None else f"{some} AND ({where})"
        yield from scan(store.tables.events, HIT_COLUMNS, some).to_pylist()


def _add_cosines(store: MemoryStore, ranking: _Ranking) -> None:
    """Compute the cosines of the page's events that only their text has found."""
    missing = [row["event_id"] for row in ranking.page if "cosine" not in row]
    if not missing:
        return
    found = scan(store.tables.events, ["event_id", "embedding"], is_in("event_id", missing))
    query_D = ranking.vector_D / np.linalg.norm(ranking.vector_D)
    for event_id, vector in zip(*found.to_pydict().values(), strict=True):
        vector_D = np.asarray(vector, np.float32)
        ranking.rows[event_id]["cosine"] = float(query_D @ vector_D / np.linalg.norm(vector_D))


def _hit(row: Row) -> SearchHit:
    columns: dict[str, Any] = {name: row.get(name) for name in HIT_COLUMNS}
    columns["tags"] = tuple(columns["tags"] or ())
    return SearchHit(
        **columns,
        uri=row["uri"],
        score=float(row["score"]),
        cosine=row.get("cosine"),
        text_score=row.get("text_score"),
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
