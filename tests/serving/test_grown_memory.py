"""A memory that changes while it is served: more videos, and the vectors of another encoder."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from marc_core import schemas
from marc_core.config import EncoderConfig, config_to_yaml
from marc_core.digest import frames_digest
from marc_core.embed import load_encoder
from marc_core.memory import MemoryStore
from marc_core.question import EventFilter, Question, SearchQuery
from serving import retriever as module
from serving.config import ServeConfig, method_of
from serving.ports import VideoQuery
from serving.retriever import MemoryRetriever
from tests.encoders import save_encoder

REFRESH_S = 0.2


@pytest.fixture
def served(small_memory: Path, tmp_path: Path) -> Iterator[MemoryRetriever]:
    shutil.copytree(small_memory / "runs" / "memory", tmp_path / "memory")
    settings = (f"memory.refresh_s={REFRESH_S}",)
    config = ServeConfig(memory=str(tmp_path / "memory"), settings=settings)
    found = MemoryRetriever.open(config, method_of(config))
    yield found
    found.close()


def total(served: MemoryRetriever) -> int:
    return asyncio.run(served.videos(VideoQuery()))[1]


def test_a_change_is_seen_within_the_time_that_is_configured(served: MemoryRetriever) -> None:
    assert served.session.config.memory.refresh_s == REFRESH_S
    before = total(served)
    other = MemoryStore.open(served.session.config.memory)
    gone = other.videos(columns=["video_id"])["video_id"][0].as_py()
    other.delete_videos([gone])
    time.sleep(REFRESH_S)
    assert total(served) == before - 1
    found = asyncio.run(served.search(SearchQuery(text="a circle", limit=100), EventFilter()))
    assert gone not in {row["video_id"] for row in found}


def exchange_vectors(store: MemoryStore, encoder: EncoderConfig) -> None:
    """Give every event a vector of another encoder, as `marc index --only embeddings` does."""
    model = load_encoder(encoder)
    events = store.tables.events.search().to_arrow().to_pylist()
    random = np.random.default_rng(0)
    vectors = random.normal(size=(len(events), model.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        {
            "event_id": event["event_id"],
            "video_id": event["video_id"],
            "fingerprint": model.fingerprint,
            "frames_digest": frames_digest(np.asarray(event["frame_times_s"])),
            "embedding": vector,
        }
        for event, vector in zip(events, vectors, strict=True)
    ]
    schema = schemas.embeddings_schema(model.dim)
    store.stage_embeddings(pa.Table.from_pylist(rows, schema=schema))
    config = yaml.safe_load(store.last_config() or "")
    config["encoder"]["model"] = encoder.model
    assert store.switch_encoder(model.fingerprint, model.dim, yaml.safe_dump(config))


@pytest.mark.parametrize(
    "noticed_by",
    ["a question", pytest.param("a look at its health", marks=pytest.mark.slow)],
)
def test_a_memory_with_another_encoders_vectors_is_opened_anew(
    served: MemoryRetriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    monkeypatch.setattr(module, "CLOSE_AFTER_S", 0.0)
    (tmp_path / "clip").mkdir()
    save_encoder(tmp_path / "clip", "clip")
    old = served.session
    encoder = dataclasses.replace(old.config.encoder, model=str(tmp_path / "clip"))
    exchange_vectors(MemoryStore.open(old.config.memory), encoder)
    time.sleep(REFRESH_S)
    if noticed_by == "a question":
        query = SearchQuery(text="a circle", limit=5)

        async def ask() -> None:
            both = [served.search(query, EventFilter()), served.prepare(Question(text="What?"))]
            rows, prepared = await asyncio.gather(*both)
            assert len(rows) == 5
            assert prepared.citations

        asyncio.run(ask())
    else:
        deadline = time.monotonic() + 20
        while served.session is old:
            assert time.monotonic() < deadline
            asyncio.run(served.health())
            time.sleep(0.05)
    assert served.session is not old
    assert served.session.config.encoder.model == encoder.model
    assert config_to_yaml(served.session.config.student) == config_to_yaml(old.config.student)
    asyncio.run(served.health())
