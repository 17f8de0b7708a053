"""Captions by the tiny preset's teacher, as the text pass makes them: here, and on Ray."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.world import sample_video
from pipelines.running import Counter, run_chain
from pipelines.texts import make_texts, plan_texts
from tests.marc_core.memories import FIVE_SCENES, index_videos, world_archive

SEED = 9001


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_event_is_captioned_once(tmp_path: Path, chains: str) -> None:
    archive, memory = tmp_path / "archive", tmp_path / "memory"
    world_archive(archive, seeds=(SEED,))
    store = index_videos(archive, memory)
    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[
            f"archive=['{archive}']", f"memory.uri='{memory}'", "text.captions=on",
            "text.speech=off", "text.writing=off",
        ],
    )  # fmt: skip
    found = store.videos(columns=["video_id"])["video_id"]
    plan = plan_texts(store, found, config)
    assert plan.videos == {"caption": 1}
    count = Counter(lambda *_: None, 0)
    run = partial(run_chain, config=config, embedding_dim=store.meta.embedding_dim, count=count)
    assert make_texts(plan, run=run, store=store, config=config) == {}
    store.refresh()
    events = store.events_of(found[0].as_py()).to_pylist()
    texts = store.texts_of([event["event_id"] for event in events]).to_pylist()
    captions = {row["event_id"]: row for row in texts if row["kind"] == "caption"}
    assert set(captions) == {event["event_id"] for event in events}
    assert len([row for row in texts if row["kind"] == "caption"]) == len(events)
    assert all("caption" in event["text_kinds"] for event in events)
    assert all(0 < row["confidence"] <= 1 for row in captions.values())
    scenes = sample_video(SEED, FIVE_SCENES).events
    right = []
    for event in events:
        middle_s = (event["start_s"] + event["end_s"]) / 2 - event["video_start_s"]
        (place,) = [s.background for s in scenes if s.start_s <= middle_s < s.end_s]
        right.append(place in captions[event["event_id"]]["text"])
    assert sum(right) >= 0.8 * len(right), captions
    assert plan_texts(store, found, config).work.num_rows == 0
    shorter = dataclasses.replace(config.text, caption_max_tokens=8)
    again = plan_texts(store, found, dataclasses.replace(config, text=shorter))
    assert again.videos == {"caption": 1}
