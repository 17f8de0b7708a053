"""Words within one kind of text; footage that the encoder does not know is found by its text."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.config import AnswerConfig, RetrieveConfig
from marc_core.memory import MemoryStore, search
from marc_core.memory.archive import MemoryArchive
from marc_core.question import EventFilter, SearchQuery
from marc_core.searching import Searcher

SAID = {
    "speech": {0: ["the exit is closed"], 1: ["good morning"]},
    "writing": {1: ["EXIT 12", "no smoking"], 2: ["platform"]},
}


def row(event, kind, number, text):
    return {
        "text_id": schemas.make_text_id(event["event_id"], kind, number),
        "event_id": event["event_id"], "video_id": event["video_id"], "kind": kind,
        "start_s": event["start_s"], "end_s": event["end_s"], "text": text, "fingerprint": "f",
    }  # fmt: skip


def publish(store, fakes, video_id="v", *, synthetic=None, said=SAID):
    """Publish four events, of which some have texts of two kinds."""
    events = [fakes.event_row(video_id, i, synthetic=synthetic) for i in range(4)]
    texts = [
        row(events[i], kind, number, text)
        for kind, by_event in said.items()
        for i, lines in by_event.items()
        for number, text in enumerate(lines)
    ]
    for event in events:
        own = sorted((t["start_s"], t["text_id"], t["text"]) for t in texts
                     if t["event_id"] == event["event_id"])  # fmt: skip
        event["text"] = " ".join(text for *_, text in own) or None
    video = fakes.video_row(video_id, f"/{video_id}.mp4", 4, synthetic=synthetic)
    store.publish(
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(fakes.DIM)),
        None,
        pa.Table.from_pylist(texts, schema=schemas.TEXTS),
    )


def found(store, fakes, text, *kinds, **more):
    query = SearchQuery(text=text, filter=EventFilter(kinds=kinds, **more))
    vector = np.ones((1, fakes.DIM), np.float32)
    (hits,) = search(store, [query], vector, RetrieveConfig())
    return [hit.index for hit in hits if hit.text_score is not None]


def test_words_are_found_in_the_kinds_that_are_asked_for(store, fakes):
    publish(store, fakes)
    assert sorted(found(store, fakes, "exit")) == [0, 1]
    assert found(store, fakes, "exit", "speech") == [0]
    assert found(store, fakes, "exits", "writing") == [1]
    assert sorted(found(store, fakes, "exit", "writing", "speech")) == [0, 1]
    assert found(store, fakes, '"no smoking"', "writing") == [1]
    assert found(store, fakes, '"no smoking"', "speech") == []
    assert found(store, fakes, "exit", "writing", start_s=2.5) == []


def test_kinds_alone_narrow_what_is_listed_and_counted(store, fakes):
    publish(store, fakes)
    archive = MemoryArchive(store, AnswerConfig())
    written = EventFilter(kinds=("writing",))
    assert [hit.index for hit in archive.events(written, limit=9)] == [1, 2]
    assert archive.count(written) == 2
    assert archive.count(EventFilter(kinds=("caption",))) == 0
    nothing = archive.why_nothing(EventFilter(kinds=("caption",)))
    assert nothing == "Nothing in the memory has text of kind caption. Kinds: speech, writing."


def test_an_older_memory_has_sidecars_alone(store, config, fakes):
    videos, events, features, texts = fakes.tables_of("a", "/a.mp4", 2, text="exit")
    store.publish(videos, events, features, texts)
    for name, added in schemas.ADDED.items():
        getattr(store.tables, name).drop_columns([field.name for field in added])
    old = MemoryStore.open(config)
    assert sorted(found(old, fakes, "exit", "sidecar")) == [0, 1]
    assert found(old, fakes, "exit", "speech") == []
    assert MemoryArchive(old, AnswerConfig()).count(EventFilter(kinds=("sidecar",))) == 2
    publish(old, fakes, "v")  # adds the columns; kinds of what is there stay untold
    assert sorted(found(old, fakes, "exit", "sidecar")) == [0, 1]


class Ones:
    """An encoder to which everything looks alike."""

    hit_margin = 0.1

    def __init__(self, dim):
        self.dim = dim

    def encode_texts(self, texts):
        return np.ones((len(texts), self.dim), np.float32)

    def encode_images(self, images):
        return np.ones((len(images), self.dim), np.float32)


@pytest.fixture
def searcher(store, fakes):
    archive = MemoryArchive(store, AnswerConfig())  # the tiny preset's encoder
    return Searcher(archive, Ones(fakes.DIM))


def test_what_is_found_shows_the_lines_with_its_words(store, fakes, searcher):
    publish(store, fakes, synthetic=True)
    (hits,) = searcher.search([SearchQuery(text="exit smoking", limit=2)])
    shown = {hit.index: hit.matches for hit in hits}
    assert [line.text for line in shown[1]] == ["EXIT 12", "no smoking"]
    assert [(line.kind, line.start_s) for line in shown[0]] == [("speech", 0.0)]
    (line,) = shown[0]
    assert [line.text[a:b] for a, b in line.words] == ["exit"]
    only = EventFilter(kinds=("writing",))
    (hits,) = searcher.search([SearchQuery(text="morning exit", filter=only, limit=1)])
    assert [line.text for line in hits[0].matches] == ["EXIT 12"]


def test_footage_is_ranked_by_its_text_alone(store, fakes, searcher):
    publish(store, fakes, "film", synthetic=False)
    publish(store, fakes, "world", synthetic=True, said={})
    (hits,) = searcher.search([SearchQuery(text="exit")])
    by_video = {hit.video_id: [h.index for h in hits if h.video_id == hit.video_id] for hit in hits}
    assert sorted(by_video["film"]) == [0, 1]
    assert sorted(by_video["world"]) == [0, 1, 2, 3]
    assert {hit.video_id: hit.encoder_knows for hit in hits} == {"film": False, "world": True}
    (hits,) = searcher.search([SearchQuery(text="a dog")])
    assert {hit.video_id for hit in hits} == {"world"}
    assert searcher.archive.blind_videos() == 1


def test_by_picture_footage_is_found_and_labelled(store, fakes, searcher):
    publish(store, fakes, "film", synthetic=False)
    (hits,) = searcher.search([SearchQuery(event_id="film:0000:00000", limit=9)])
    assert [hit.encoder_knows for hit in hits] == [False] * 3
    known = dataclasses.replace(hits[0], encoder_knows=True)
    assert known.cosine == hits[0].cosine


def test_what_nobody_said_is_no_footage(store, fakes, searcher):
    publish(store, fakes, synthetic=None)
    (hits,) = searcher.search([SearchQuery(text="a dog")])
    assert len(hits) == 4
    assert all(hit.encoder_knows for hit in hits)
    assert searcher.archive.blind_videos() == 0
