import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from lancedb.index import IvfFlat

from marc_core import schemas
from marc_core.config import MemoryConfig, RetrieveConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import EventFilter, MemoryStore, chronological, search
from marc_core.memory.retriever import fuse

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
    hits = search(store, 7 * unit(1), k=2, config=CONFIG)
    assert [(h.event_id, h.uri, h.index) for h in hits] == [
        ("v:0000:00001", "/v.mp4", 1),
        ("v:0000:00000", "/v.mp4", 0),
    ]
    assert [h.score for h in hits] == pytest.approx([1.0, 2**-0.5], abs=1e-6)
    assert (hits[0].start_s, hits[0].end_s, hits[0].thumbnail) == (1.0, 2.0, b"jpeg of 1")


def test_fewer_events_than_k_are_all_found(store, fakes):
    assert search(store, unit(1), config=CONFIG) == []
    publish(store, fakes, "v", [(unit(1), None)])
    assert len(search(store, unit(1), k=10, config=CONFIG)) == 1


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
    # By vector: 0, 1, 2. By text: only 2 speaks of a dog. RRF: 2 has 1/63 + 1/61, 0 has 1/61.
    events = [(unit(1), "a cat"), (unit(2, 1), None), (unit(1, 1), "the dog barks")]
    publish(store, fakes, "v", events)
    if optimized:
        store.optimize()
    hits = search(store, unit(1), text="Dogs?", config=CONFIG)
    assert [h.index for h in hits] == [2, 0, 1]
    assert [h.score for h in hits] == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62])


def test_text_is_ignored_when_hybrid_is_off_or_nothing_matches(store, fakes):
    publish(store, fakes, "v", [(unit(1), "a cat"), (unit(1, 1), "a dog")])
    for text, config in (("dog", dataclasses.replace(CONFIG, hybrid=False)), ("house", CONFIG)):
        hits = search(store, unit(1), text=text, config=config)
        assert [h.index for h in hits] == [0, 1]
        assert hits[0].score == pytest.approx(1.0, abs=1e-6)


def test_text_respects_filters(store, fakes):
    for name in ("v", "w"):
        publish(store, fakes, name, [(unit(1), "a dog")])
    only = EventFilter(video_ids=("w",))
    hits = search(store, unit(1), text="dog", config=CONFIG, filters=only)
    assert [h.video_id for h in hits] == ["w"]


def test_hidden_events_take_no_places(store, fakes):
    """Events whose videos row is not there yet (a writer between two commits) are not seen."""
    publish(store, fakes, "hidden", [(unit(1), "dog")] * 9)
    publish(store, fakes, "seen", [(unit(1, 1), "dog")] * 2)
    store.tables.videos.delete("video_id = 'hidden'")
    for text in (None, "dog"):
        hits = search(store, unit(1), text=text, k=2, config=CONFIG)
        assert [h.video_id for h in hits] == ["seen", "seen"]


def test_chronological_is_by_time_within_a_video(store, fakes):
    publish(store, fakes, "v", [(unit(1, 0.2), None), (unit(1), None), (unit(1, 0.5), None)])
    publish(store, fakes, "w", [(unit(1, 0.1), None)])
    hits = search(store, unit(1), k=4, config=CONFIG)
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
def test_queries_that_cannot_be_compared_are_refused(store, vector):
    with pytest.raises(MemoryStoreError, match="query vector must"):
        search(store, vector.astype(np.float32), config=CONFIG)


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
        hits = search(hasty, query_D, k=5, config=CONFIG, filters=filters)
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
        found += len(best & {h.index for h in search(store, query_D, k=k, config=CONFIG)})
    assert found >= 0.97 * queries * k
