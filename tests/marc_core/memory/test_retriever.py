import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lancedb.index import FTS, IvfFlat

from marc_core import schemas
from marc_core.choosing import chronological
from marc_core.config import MemoryConfig, RetrieveConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore, retriever, search
from marc_core.memory.retriever import fuse
from marc_core.question import EventFilter, SearchQuery

CONFIG = RetrieveConfig()


def unit(*values):
    vector = np.zeros(16, np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def publish(store, fakes, video_id, events):
    """Publish one video whose events have these (embedding, text)."""
    rows = [
        fakes.event_row(video_id, i, embedding=embedding, text=text)
        for i, (embedding, text) in enumerate(events)
    ]
    videos, *_ = fakes.tables_of(video_id, f"/{video_id}.mp4", len(rows))
    table = pa.Table.from_pylist(rows, schema=schemas.events_schema(16))
    store.publish(videos, table, None, fakes.texts_table(rows))


def test_hits_are_the_nearest_events_with_their_cosines(store, fakes):
    publish(store, fakes, "v", [(unit(1, 1), None), (unit(1), None), (unit(0, 1), "x")])
    hits = fakes.find(store, 7 * unit(1), k=2)
    assert [(h.event_id, h.uri, h.index) for h in hits] == [
        ("v:0000:00001", "/v.mp4", 1),
        ("v:0000:00000", "/v.mp4", 0),
    ]
    assert [h.score for h in hits] == pytest.approx([1.0, 2**-0.5], abs=1e-6)
    assert (hits[0].start_s, hits[0].end_s, hits[0].part) == (1.0, 2.0, 0)


def test_fewer_events_than_k_are_all_found(store, fakes):
    assert fakes.find(store, unit(1)) == []
    publish(store, fakes, "v", [(unit(1), None)])
    assert len(fakes.find(store, unit(1), k=10)) == 1


def test_fusion_by_hand():
    # a: 1/61 + 1/62, b: 1/62 + 1/63, c: 1/63, d: 1/61
    fused = fuse([["a", "b", "c"], ["d", "a", "b"]], 60)
    assert [key for key, _ in fused] == ["a", "b", "d", "c"]
    assert [score for _, score in fused] == pytest.approx(
        [1 / 61 + 1 / 62, 1 / 62 + 1 / 63, 1 / 61, 1 / 63]
    )


def test_ties_keep_the_first_rankings_order():
    assert [key for key, _ in fuse([["a", "b"], ["b", "a"]], 60)] == ["a", "b"]


@pytest.mark.parametrize("optimized", [False, True])
def test_hybrid_search_by_hand(store, fakes, optimized):
    # By vector: 0, 1, 2. By text: only 2 speaks of a dog, and holds all words of the query.
    events = [(unit(1), "a cat"), (unit(2, 1), None), (unit(1, 1), "the dog barks")]
    publish(store, fakes, "v", events)
    if optimized:
        store.optimize()
    hits = fakes.find(store, unit(1), text="Dogs?")
    assert [h.index for h in hits] == [2, 0, 1]
    assert [h.score for h in hits] == pytest.approx([1 / 63 + 2 / 61, 1 / 61, 1 / 62])


def test_every_hit_tells_its_cosine_and_its_text_score(store, fakes):
    """Also hits that only their words have found, far behind all the candidates of the vectors."""
    pictures = [(unit(1, 0.001 * i), None) for i in range(150)]
    publish(store, fakes, "v", [*pictures, (unit(-1, 0.1), "a needle")])
    hits = fakes.find(store, 3 * unit(1), text="needle", k=2)
    assert [h.index for h in hits] == [150, 0]
    assert hits[0].cosine == pytest.approx(float(unit(1) @ unit(-1, 0.1)), abs=1e-6)
    assert hits[0].text_score > 0
    assert hits[1].cosine == pytest.approx(1.0, abs=1e-6)
    assert hits[1].text_score is None
    (plain,) = fakes.find(store, unit(1), k=1)
    assert (plain.cosine, plain.text_score) == (plain.score, None)


@pytest.mark.parametrize("needles", [1, 4])
def test_a_spoken_word_that_matches_exactly_comes_before_an_unrelated_picture(
    store, fakes, needles
):
    """Without a tie for the first picture, and however many events say the word."""
    pictures = [(unit(1, 0.001 * i), None) for i in range(150)]
    spoken = [(unit(-1, 0.1 * i), "now the needle") for i in range(needles)]
    publish(store, fakes, "v", [*pictures, *spoken])
    hits = fakes.find(store, unit(1), text="needle", k=needles + 1)
    assert [h.index >= 150 for h in hits] == [True] * needles + [False]
    assert [h.score for h in hits] == sorted({h.score for h in hits}, reverse=True)


def test_some_of_the_words_do_not_push_away_the_picture_that_was_meant(store, fakes):
    pictures = [(unit(1, 0.001 * i), None) for i in range(150)]
    chatter = [(unit(-1), f"this way please, number {i}") for i in range(20)]
    publish(store, fakes, "v", [*pictures, *chatter])
    hits = fakes.find(store, unit(1), text="Which way does the red circle move?", k=3)
    assert 0 in [h.index for h in hits]


@pytest.mark.parametrize("optimized", [False, True])
def test_double_quotes_search_a_phrase(store, fakes, optimized):
    texts = ["the red dog runs", "a dog, red", "dog", None]
    publish(store, fakes, "v", [(unit(1, i), text) for i, text in enumerate(texts)])
    if optimized:
        store.optimize()

    def found(text):
        hits = fakes.find(store, unit(0, 0, 1), text=text, k=9)
        return [h.index for h in hits if h.text_score is not None]

    assert found('"red dog"') == [0]
    assert found('"dog red"') == [1]
    assert found("red dog") == [1, 0, 2]
    assert found('"dog "red"') == [1, 0, 2]  # not one phrase: words
    assert found('"red dog') == [1, 0, 2]
    assert found('"walrus"') == found('""') == found('"') == []


def test_without_positions_in_the_index_a_phrase_is_searched_as_words(store, fakes):
    publish(store, fakes, "v", [(unit(1), "the red dog runs"), (unit(1, 1), "a dog, red")])
    store.tables.events.create_index("text", config=FTS(), replace=True)
    hits = fakes.find(store, unit(0, 0, 1), text='"red dog"')
    assert {h.index for h in hits if h.text_score is not None} == {0, 1}


WORDS = st.sampled_from(['"', "'", "\\", "(", ")", "*", "~", "^", ":", "AND", "dog", " ", "\0"])
HOSTILE = st.lists(
    st.one_of(WORDS, st.text(st.characters(codec="utf-8"), max_size=3)), max_size=8
).map("".join)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=HOSTILE, quoted=st.booleans())
def test_no_characters_of_a_query_break_a_search(spoken, fakes, text, quoted):
    hits = fakes.find(spoken, unit(1), text=f'"{text}"' if quoted else text, k=5)
    assert len(hits) == 3
    assert all(math.isfinite(h.score) and h.cosine is not None for h in hits)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory, fakes):
    config = MemoryConfig(uri=str(tmp_path_factory.mktemp("spoken")))
    store = MemoryStore.open(config, embedding_dim=16, create=True)
    texts = ["a dog runs", 'he said "dog" (twice)', None]
    publish(store, fakes, "v", [(unit(1, i), text) for i, text in enumerate(texts)])
    return store


def ask(store, *queries):
    pairs = list(queries)
    return search(store, [q for q, _ in pairs], np.stack([v for _, v in pairs]), CONFIG)


def test_pages_show_one_order_without_gaps_or_repeats(store, fakes):
    rng = np.random.default_rng(7)
    words = ["dog", "cat", "dog cat", None, None]
    events = [(rng.standard_normal(16), words[i % 5]) for i in range(30)]
    publish(store, fakes, "v", events)
    for text in (None, "dog", "dog cat"):
        whole = fakes.find(store, unit(1), text=text, k=200)
        assert len({h.event_id for h in whole}) == len(whole) == 30
        for size in (3, 20):
            pages = []
            for offset in range(0, 31, size):
                query = SearchQuery(text=text, limit=size, offset=offset)
                pages += ask(store, (query, unit(1)))[0]
            assert [h.event_id for h in pages] == [h.event_id for h in whole]


def test_a_pool_that_nobody_pages_through_is_found_in_one_pass(store, fakes, monkeypatch):
    passes, rank = [], retriever._rank
    monkeypatch.setattr(retriever, "_rank", lambda *a: passes.append(a[2]) or rank(*a))
    rng = np.random.default_rng(9)
    publish(store, fakes, "v", [(rng.standard_normal(16), None) for _ in range(70)])
    paged, pool = (SearchQuery(limit=64, paged=p) for p in (True, False))
    (hits,) = ask(store, (paged, unit(1)))
    assert passes == [10, 40, 160]
    passes.clear()
    (found,) = ask(store, (pool, unit(1)))
    assert passes == [64]
    assert [h.event_id for h in found] == [h.event_id for h in hits]
    passes.clear()
    ask(store, (pool, unit(1)), (paged, unit(1)))
    assert passes == [10, 40, 160]


def test_several_queries_at_once_are_each_query_alone(store, fakes):
    rng = np.random.default_rng(8)
    for name in ("v", "w"):
        words = ["dog", None, "cat"]
        publish(store, fakes, name, [(rng.standard_normal(16), words[i % 3]) for i in range(40)])
    only = EventFilter(video_ids=("w",))
    queries = [
        (SearchQuery(text="dog", limit=4), unit(1)),
        (SearchQuery(text="walrus", limit=9), unit(0, 1)),
        (SearchQuery(event_id="v:0000:00003", limit=12), unit(0, 0, 1)),
        (SearchQuery(text="cat", filter=only, limit=5, offset=3), unit(0, 1)),
        (SearchQuery(filter=EventFilter(video_ids=())), unit(1)),
    ]
    together = ask(store, *queries)
    for query, hits in zip(queries, together, strict=True):
        (alone,) = ask(store, query)
        assert [h.event_id for h in hits] == [h.event_id for h in alone]
        assert [h.score for h in hits] == pytest.approx([h.score for h in alone], abs=1e-5)
    assert [len(hits) for hits in together] == [4, 9, 12, 5, 0]


def test_more_like_this_leaves_out_this(store, fakes):
    publish(store, fakes, "v", [(unit(1, 0.1 * i), None) for i in range(5)])
    query = SearchQuery(event_id="v:0000:00001", limit=3)
    (hits,) = ask(store, (query, unit(1, 0.1)))
    assert [h.index for h in hits] == [2, 0, 3]


def test_text_is_ignored_when_hybrid_is_off_or_nothing_matches(store, fakes):
    publish(store, fakes, "v", [(unit(1), "a cat"), (unit(1, 1), "a dog")])
    for text, config in (("dog", dataclasses.replace(CONFIG, hybrid=False)), ("house", CONFIG)):
        hits = fakes.find(store, unit(1), text=text, config=config)
        assert [h.index for h in hits] == [0, 1]
        assert hits[0].score == pytest.approx(1.0, abs=1e-6)


def test_text_respects_filters(store, fakes):
    for name in ("v", "w"):
        publish(store, fakes, name, [(unit(1), "a dog")])
    only = EventFilter(video_ids=("w",))
    hits = fakes.find(store, unit(1), text="dog", filters=only)
    assert [h.video_id for h in hits] == ["w"]


def test_hidden_events_take_no_places(store, fakes):
    """Events whose videos row is not there yet (a writer between two commits) are not seen."""
    publish(store, fakes, "hidden", [(unit(1), "dog")] * 9)
    publish(store, fakes, "seen", [(unit(1, 1), "dog")] * 2)
    store.tables.videos.delete("video_id = 'hidden'")
    for text in (None, "dog"):
        hits = fakes.find(store, unit(1), text=text, k=2)
        assert [h.video_id for h in hits] == ["seen", "seen"]


def test_chronological_is_by_time_within_a_video(store, fakes):
    publish(store, fakes, "v", [(unit(1, 0.2), None), (unit(1), None), (unit(1, 0.5), None)])
    publish(store, fakes, "w", [(unit(1, 0.1), None)])
    hits = fakes.find(store, unit(1), k=4)
    assert [h.event_id for h in hits] == [
        "v:0000:00001",
        "w:0000:00000",
        "v:0000:00000",
        "v:0000:00002",
    ]
    assert [h.event_id for h in chronological(hits)] == [
        "v:0000:00000",
        "v:0000:00001",
        "v:0000:00002",
        "w:0000:00000",
    ]


@pytest.mark.parametrize(
    "vector", [np.ones(8), np.ones((1, 16)), np.zeros(16), np.full(16, np.inf)]
)
def test_queries_that_cannot_be_compared_are_refused(store, fakes, vector):
    with pytest.raises(MemoryStoreError, match="query vector must"):
        fakes.find(store, vector.astype(np.float32))


def clustered(rng, rows, dim, clusters=300):
    centres = rng.standard_normal((clusters, dim)).astype(np.float32)
    picked = centres[rng.integers(0, clusters, rows)]
    vectors = picked + 0.5 * rng.standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_narrow_filter_is_exact_whatever_the_index_holds(store, config, fakes):
    """One partition of 16 is probed; the filtered video's events lie in any of them."""
    rng = np.random.default_rng(5)
    for name in ("v", "w"):
        publish(store, fakes, name, [(rng.standard_normal(16), None) for _ in range(400)])
    kind = IvfFlat(distance_type="cosine", num_partitions=16)
    store.tables.events.create_index("embedding", config=kind)
    hasty = MemoryStore.open(dataclasses.replace(config, nprobes=1, vector_index_rows=500))
    vectors_ED = np.stack(store.events_of("w")["embedding"].to_pylist())
    vectors_ED /= np.linalg.norm(vectors_ED, axis=1, keepdims=True)
    for query_D in rng.standard_normal((10, 16)).astype(np.float32):
        filters = EventFilter(video_ids=("w",))
        hits = fakes.find(hasty, query_D, k=5, filters=filters)
        assert [h.index for h in hits] == np.argsort(-(vectors_ED @ query_D))[:5].tolist()


@pytest.mark.parametrize("dim", [128, 28])
def test_the_vector_index_finds_what_brute_force_finds(tmp_path, fakes, dim):
    rows, queries, k = 12_000, 50, 3
    rng = np.random.default_rng(0)
    vectors_ED = clustered(rng, rows, dim)
    store = MemoryStore.open(MemoryConfig(uri=str(tmp_path)), embedding_dim=dim, create=True)
    index = range(rows)
    events = {
        "event_id": [schemas.make_event_id("v", 0, i) for i in index],
        "video_id": ["v"] * rows,
        "part": np.zeros(rows, np.int32),
        "video_start_s": np.zeros(rows),
        "folder": [""] * rows,
        "index": index,
        "start_s": np.arange(rows, dtype=np.float64),
        "end_s": np.arange(1, rows + 1, dtype=np.float64),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors_ED.ravel(), dim),
    }
    schema = schemas.events_schema(dim)
    table = pa.table({f.name: events.get(f.name, pa.nulls(rows, f.type)) for f in schema})
    videos = pa.Table.from_pylist([fakes.video_row("v", "/v", rows)], schema=schemas.VIDEOS)
    store.publish(videos, table, None)
    store.optimize()
    kinds = {i.columns[0]: i.index_type for i in store.tables.events.list_indices()}
    assert kinds["embedding"] == ("IvfRq" if dim == 128 else "IvfFlat")
    found = 0
    for query_D in clustered(rng, queries, dim):
        best = set(np.argsort(-(vectors_ED @ query_D))[:k].tolist())
        found += len(best & {h.index for h in fakes.find(store, query_D, k=k)})
    assert found >= 0.97 * queries * k
