"""The text pass: what lacks texts gets them, nothing is done twice, failures are warnings."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.config import IndexConfig, MemoryConfig, TextConfig
from marc_core.errors import ConfigError
from marc_core.memory import MemoryStore
from marc_core.text import stages
from marc_core.video import list_videos
from pipelines.running import Counter, run_chain
from pipelines.stages import from_ipc
from pipelines.texts import TextsStage, make_texts, plan_texts
from tests.marc_core.memory import fakes
from tests.pipelines import fake_texts
from tests.pipelines.local_ray import chains_here


@pytest.fixture(autouse=True)
def fake_speech(monkeypatch):
    fake = stages.StageKind(
        setting="speech", module=fake_texts.__name__, extra="speech", seconds_an_hour=360.0
    )
    monkeypatch.setattr(stages, "STAGES", {"speech": fake})
    fake_texts.LOOKED.clear()


@pytest.fixture
def archive(tmp_path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path, archive) -> IndexConfig:
    memory = MemoryConfig(uri=str(tmp_path / "memory"))
    return IndexConfig(archive=(str(archive),), memory=memory, patterns=("*.mp4",))


def index(
    archive: Path, config: IndexConfig, texts: dict[str, object], **row: object
) -> MemoryStore:
    """Make files that say these texts, and a memory of three events for each."""
    for name, said in texts.items():
        (archive / name).write_text(json.dumps(said))
    store = MemoryStore.open(config.memory, embedding_dim=fakes.DIM, create=True)
    for source in list_videos([str(archive)], config.patterns, {}):
        videos, *rest = fakes.tables_of(source.video_id, source.uri, 3, text="shown")
        names = ("size_bytes", "version")
        changed = videos.to_pylist()[0] | {n: getattr(source, n) for n in names} | row
        store.publish(pa.Table.from_pylist([changed], schema=schemas.VIDEOS), *rest)
    return store


def texts_pass(store: MemoryStore, config: IndexConfig) -> dict[str, str]:
    found = store.videos(columns=["video_id"])["video_id"]
    count = Counter(lambda *_: None, 0)
    run = partial(run_chain, config=config, embedding_dim=fakes.DIM, count=count)
    with chains_here():
        plan = plan_texts(store, found, config)
        return make_texts(plan, run=run, store=store, config=config)


def said(store: MemoryStore, name: str) -> list[str]:
    store.refresh()
    (video,) = [v for v in store.videos().to_pylist() if v["uri"].endswith(name)]
    return store.events_of(video["video_id"])["text"].to_pylist()


def video(store: MemoryStore, name: str) -> dict:
    store.refresh()
    (row,) = [v for v in store.videos().to_pylist() if v["uri"].endswith(name)]
    return row


def test_events_get_what_is_said_in_them_beside_what_they_had(archive, config):
    lines = [[0.2, 0.8, "hello there"], [0.9, 1.1, "across"], [7.0, 8.0, "after the end"]]
    store = index(archive, config, {"a.mp4": lines})
    assert texts_pass(store, config) == {}
    assert said(store, "a.mp4") == [
        "shown hello there across",
        "across shown",
        "shown after the end",
    ]
    events = store.events_of(video(store, "a.mp4")["video_id"])
    assert events["text_kinds"].to_pylist() == [["sidecar", "speech"]] * 3
    rows = store.texts_of(events["event_id"].to_pylist()).to_pylist()
    across = [row for row in rows if row["text"] == "across"]
    assert [(row["start_s"], row["end_s"]) for row in across] == [(0.9, 1.1)] * 2


def test_nothing_is_done_twice_and_another_model_does_it_again(archive, config):
    store = index(archive, config, {"a.mp4": [[0, 1, "one"], [0, 1, "two"]], "b.mp4": []})
    texts_pass(store, config)
    texts_pass(store, config)
    assert sorted(fake_texts.LOOKED) == ["a.mp4", "b.mp4"]
    other = dataclasses.replace(config, student=dataclasses.replace(config.student, model="x"))
    assert plan_texts(store, store.videos()["video_id"], other).videos == {"speech": 2}
    assert said(store, "a.mp4") == ["shown one two", "shown", "shown"]


def test_a_synthetic_video_is_left_alone_unless_asked_for(archive, config):
    store = index(archive, config, {"a.mp4": [[0, 1, "one"]]}, synthetic=True)
    texts_pass(store, config)
    assert fake_texts.LOOKED == []
    on = dataclasses.replace(config, text=TextConfig(speech="on"))
    assert texts_pass(store, on) == {}
    assert said(store, "a.mp4")[0] == "shown one"
    off = dataclasses.replace(config, text=TextConfig(speech="off"))
    assert not plan_texts(store, store.videos()["video_id"], off).work.num_rows


def test_what_is_wrong_with_a_file_is_a_warning_and_settled(archive, config):
    store = index(archive, config, {"a.mp4": {"raise": "unreadable"}, "b.mp4": [[0, 1, "b"]]})
    reasons = texts_pass(store, config)
    assert list(reasons.values()) == ["the file is unreadable"]
    assert video(store, "a.mp4")["warnings"] == ["speech: the file is unreadable"]
    assert said(store, "a.mp4") == ["shown"] * 3
    fake_texts.LOOKED.clear()
    texts_pass(store, config)
    assert fake_texts.LOOKED == []


def test_what_may_pass_is_tried_again_and_its_warning_goes(archive, config):
    store = index(archive, config, {"a.mp4": {"raise": "source"}})
    for attempt in (1, 2):
        assert len(texts_pass(store, config)) == 1
        assert video(store, "a.mp4")["warnings"] == [
            f"speech: the file is source (attempt {attempt})"
        ]
    stat = (archive / "a.mp4").stat()
    (archive / "a.mp4").write_text(json.dumps([[0, 1, "b"]]).ljust(stat.st_size))
    os.utime(archive / "a.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert texts_pass(store, config) == {}
    assert video(store, "a.mp4")["warnings"] == []
    assert said(store, "a.mp4")[0] == "shown b"


def test_a_file_that_stalls_its_stage_is_given_up(archive, config):
    store = index(archive, config, {"a.mp4": {"raise": "timeout"}})
    for _ in range(5):
        texts_pass(store, config)
    assert len(fake_texts.LOOKED) == 3
    assert video(store, "a.mp4")["speech_fingerprint"]


def test_a_video_that_was_indexed_again_meanwhile_is_left_to_the_next_run(archive, config):
    store = index(archive, config, {"a.mp4": [[0, 1, "one"]]})
    (row,) = plan_texts(store, store.videos()["video_id"], config).work.to_pylist()
    (source,) = list_videos([str(archive)], config.patterns, {})
    cells = TextsStage(config).texts(source, row)
    later = video(store, "a.mp4")["indexed_at"].replace(year=2027)
    index(archive, config, {}, indexed_at=later)
    store.publish_stage_texts(from_ipc(cells["stages"]), from_ipc(cells["texts"]))
    assert video(store, "a.mp4")["speech_fingerprint"] is None
    assert said(store, "a.mp4") == ["shown"] * 3


def test_hours_and_cost_are_said_before(archive, config):
    store = index(archive, config, {"a.mp4": [], "b.mp4": []}, duration_s=1800.0)
    plan = plan_texts(store, store.videos()["video_id"], config)
    assert list(plan.lines()) == [
        "speech: 1.0 h of media in 2 videos, about 6.0 min of one CPU core (text.speech=off)"
    ]


def test_a_missing_extra_is_said_where_auto_and_refused_where_on(archive, config, monkeypatch):
    lacking = dataclasses.replace(stages.STAGES["speech"], module="marc_core.text.no_such_module")
    monkeypatch.setattr(stages, "STAGES", {"speech": lacking})
    store = index(archive, config, {"a.mp4": []})
    (line,) = plan_texts(store, store.videos()["video_id"], config).lines()
    assert "pip install 'marc-video[speech]'" in line
    on = dataclasses.replace(config, text=TextConfig(speech="on"))
    with pytest.raises(ConfigError, match="=off does without"):
        stages.check_stages(on)
