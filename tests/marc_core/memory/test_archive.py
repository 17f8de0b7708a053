"""A memory as the question path sees it."""

import dataclasses
import datetime as dt

import av
import numpy as np
import pyarrow as pa
import pytest
import torch

from marc_core import schemas
from marc_core.archive import Archive
from marc_core.compress import event_hierarchy
from marc_core.config import IndexConfig
from marc_core.errors import AnswerError, MissingFeaturesError, SourceError
from marc_core.memory import MemoryStore
from marc_core.memory.archive import MemoryArchive
from marc_core.memory.kept import MOST, Kept, KeptRows
from marc_core.question import EventFilter, SearchQuery
from marc_core.types import VideoSource
from marc_core.video import list_videos

EVERYTHING = EventFilter()


@pytest.fixture
def archive(store):
    archive: Archive = MemoryArchive(store, IndexConfig())
    yield archive
    archive.close()


def publish_spans(store, fakes, video_id, spans, **video):
    """Publish one video whose events have these (start_s, end_s)."""
    events = [
        fakes.event_row(video_id, i, start_s=start_s, end_s=end_s)
        for i, (start_s, end_s) in enumerate(spans)
    ]
    row = fakes.video_row(video_id, f"/{video_id}.mp4", len(spans), **video)
    store.publish(
        pa.Table.from_pylist([row], schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(fakes.DIM)),
    )


def test_events_come_by_uri_and_time_up_to_the_limit(store, archive, fakes):
    for name in "ba":
        store.publish(*fakes.tables_of(name, f"/{name}.mp4", 12))
    found = archive.events(EVERYTHING, limit=14)
    assert [h.event_id for h in found] == [
        *(f"a:0000:{i:05d}" for i in range(12)), "b:0000:00000", "b:0000:00001"
    ]  # fmt: skip
    assert {h.uri for h in found} == {"/a.mp4", "/b.mp4"}
    late = archive.events(EventFilter(video_ids=("b",), start_s=10.0), limit=99)
    assert [h.index for h in late] == [10, 11]
    store.tables.videos.delete("video_id = 'a'")
    assert len(archive.events(EVERYTHING, limit=99)) == 12  # only what readers may see


class Tables:
    """Two tables of which only the versions are known."""

    def __init__(self):
        self.events = self.videos = self
        self.version = 1


def test_answers_are_read_once_a_version():
    tables, read = Tables(), []
    kept = Kept(tables)

    def ask(key):
        return kept.get(key, lambda: read.append(key) or len(read))

    assert [ask("a"), ask("a"), ask("b"), ask("a")] == [1, 1, 2, 1]
    tables.version = 2
    assert [ask("a"), ask("a")] == [3, 3]
    for key in range(MOST):
        ask(key)
    assert ask(0) == 4  # the newest stay
    assert ask("a") == len(read)  # the oldest has gone
    assert read.count("a") == 3


def test_values_of_rows_are_read_once_a_version():
    table, read = Tables(), []

    def values(ids):
        read.append(list(ids))
        return {i: i.upper() for i in ids if i != "none"}

    kept = KeptRows(table)
    assert kept.of(["a", "none"], values) == {"a": "A"}
    assert kept.of(["b", "a", "none"], values) == {"a": "A", "b": "B"}
    assert kept.of([], values) == {}
    assert read == [["a", "none"], ["b"]]
    table.version = 2
    assert kept.of(["a"], values) == {"a": "A"}
    assert read[2:] == [["a"]]


def test_what_was_read_is_kept_until_the_memory_changes(store, archive, fakes):
    store.publish(*fakes.tables_of("a", "/a.mp4", 3))
    first = archive.events(EVERYTHING, limit=99)
    first.clear()  # a caller's list is the caller's own
    assert len(archive.events(EVERYTHING, limit=99)) == archive.count(EVERYTHING) == 3
    assert archive.lengths(["a", "b"]).keys() == {"a"}
    store.publish(*fakes.tables_of("b", "/b.mp4", 2))
    assert len(archive.events(EVERYTHING, limit=99)) == archive.count(EVERYTHING) == 5
    assert archive.lengths(["a", "b"]).keys() == {"a", "b"}
    store.delete_videos(["a"])
    assert len(archive.events(EVERYTHING, limit=99)) == 2
    assert archive.lengths(["a", "b"]).keys() == {"b"}


def test_a_hit_carries_the_clocks_of_its_event(store, archive, fakes):
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    clocks = {"video_start_s": 7.0, "recorded_from": noon, "recorded_to": noon}
    store.publish(*fakes.tables_of("v", "/v.mp4", 1, text="a dog", **clocks))
    ((hit,),) = archive.search([SearchQuery(text="dog")], np.ones((1, fakes.DIM), np.float32))
    assert (hit.video_start_s, hit.recorded_from, hit.recorded_to) == (7.0, noon, noon)
    assert hit.text == "a dog"
    assert archive.thumbnails([hit.event_id, "other"]) == {hit.event_id: b"jpeg of 0"}


def test_neighbours_end_at_gaps_and_at_the_video(store, archive, fakes):
    """A frame of difference is none; a second is a gap."""
    spans = [(0.0, 4.0), (4.03, 6.0), (7.0, 9.0), (9.0, 10.0)]
    publish_spans(store, fakes, "v", spans, fps=25.0)
    publish_spans(store, fakes, "w", [(10.0, 11.0)])
    hits = archive.events(EventFilter(video_ids=("v",)), limit=9)
    indices = [
        tuple(None if n is None else n.index for n in archive.neighbours(hit)) for hit in hits
    ]
    assert indices == [(None, 1), (0, None), (None, 3), (2, None)]
    store.delete_video("v")
    assert archive.neighbours(hits[0]) == (None, None)


def test_the_vector_of_an_event_finds_it(store, archive, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 6))
    vector_D = archive.vector_of("v:0000:00003")
    assert np.linalg.norm(vector_D) == pytest.approx(1.0)
    found, others = archive.search(
        [SearchQuery(limit=1), SearchQuery(event_id="v:0000:00003", limit=9)],
        np.stack([vector_D, vector_D]),
    )
    assert (found[0].index, found[0].cosine) == (3, pytest.approx(1.0))
    assert sorted(h.index for h in others) == [0, 1, 2, 4, 5]
    with pytest.raises(AnswerError, match="no event 'v:0000:00009'"):
        archive.vector_of("v:0000:00009")


def test_features_that_came_after_the_last_look_are_found(store, archive, fakes):
    """Each table is looked at anew by itself; here the events' has been, the features' not."""
    seldom = dataclasses.replace(store.config, refresh_s=3600.0)
    reader = MemoryArchive(MemoryStore.open(seldom), IndexConfig())
    assert reader.store.tables.features.count_rows() == 0
    store.publish(*fakes.tables_of("v", "/v.mp4", 2, model=archive.features_name))
    for table in (reader.store.tables.events, reader.store.tables.videos):
        table.checkout_latest()
    hits = reader.events(EVERYTHING, limit=9)
    assert len(reader.features(hits)) == len(hits) == 2


def test_features_come_in_order_and_what_lacks_is_named(store, archive, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 3, model=archive.features_name))
    hits = archive.events(EVERYTHING, limit=9)[::-1]
    found = archive.features(hits, max_tokens=1)
    for hit, features in zip(hits, found, strict=True):
        assert torch.equal(features.groups_TPD, fakes.features_of(hit.index).groups_TPD)
    store.tables.features.delete("event_id = 'v:0000:00001'")
    with pytest.raises(MissingFeaturesError, match="marc index ARCHIVE --only features") as error:
        archive.features(hits)
    assert error.value.event_ids == ("v:0000:00001",)


def write_steps(path, seconds):
    """Write a video at 10 fps that gets brighter every second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(10 * seconds):
            picture = np.full((48, 64, 3), 40 * (i // 10 + 1), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_frames_are_those_at_the_stored_times(store, archive, fakes, tmp_path):
    write_steps(tmp_path / "steps.mp4", 4)
    (source,) = list_videos([str(tmp_path)], ["*.mp4"], {})
    row = fakes.video_row(source.video_id, source.uri, 1) | {
        "size_bytes": source.size_bytes, "version": source.version
    }  # fmt: skip
    event = fakes.event_row(source.video_id, 0, end_s=4.0, frame_times_s=[0.5, 1.5, 3.5])
    store.publish(
        pa.Table.from_pylist([row], schema=schemas.VIDEOS),
        pa.Table.from_pylist([event], schema=schemas.events_schema(fakes.DIM)),
    )
    (hit,) = archive.events(EVERYTHING, limit=1)
    for _ in range(2):
        frames_FHWC, times_s = archive.frames(hit)
        assert times_s.tolist() == [0.5, 1.5, 3.5]
        assert frames_FHWC.shape == (3, 48, 64, 3)
        assert frames_FHWC.mean(axis=(1, 2, 3)) == pytest.approx([40, 80, 160], abs=4)
    (tmp_path / "steps.mp4").unlink()
    with pytest.raises(SourceError):
        archive.frames(hit)


@pytest.mark.parametrize(("uri", "stream"), [("/a.mkv", 0), ("/a.mkv#2", 2), ("/a#b.mkv", 0)])
def test_a_stored_address_tells_its_stream(fakes, uri, stream):
    source = VideoSource.of_row(fakes.video_row("v", uri))
    assert (source.uri, source.stream) == (uri, stream)


def test_hierarchies_are_made_of_groups_that_are_there(store, fakes):
    """A memory that was indexed with the paper's groups answers in mode tokens, too."""
    config = IndexConfig()
    paper = dataclasses.replace(config, compress=dataclasses.replace(config.compress, mode="plain"))
    name = MemoryArchive(store, paper).features_name
    store.publish(*fakes.tables_of("v", "/v.mp4", 3, model=name))
    hits = MemoryArchive(store, config).events(EVERYTHING, limit=9)
    for found, groups in zip(
        MemoryArchive(store, config).features(hits),
        MemoryArchive(store, paper).features(hits),
        strict=True,
    ):
        expected = event_hierarchy(groups, max_tokens=config.compress.stored_tokens)
        assert torch.equal(found.nodes_RD, expected.nodes_RD)


def test_lengths_and_vectors(store, archive, fakes):
    store.publish(*fakes.tables_of("v", "/v.mp4", 3))
    assert archive.lengths(["v", "v", "unknown"])["v"].num_events == 3
    assert set(archive.lengths(["v", "unknown"])) == {"v"}
    vectors = archive.sample_vectors(2)
    assert vectors.shape == (2, fakes.DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
