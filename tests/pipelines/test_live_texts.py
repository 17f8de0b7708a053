"""Texts of live videos: they follow their events, are put off where there are too many, and nothing
is lost by that."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from marc_core.config import MemoryConfig
from marc_core.live.config import SourceConfig, WatchConfig, WatchJobConfig
from marc_core.memory import MemoryStore
from marc_core.text import stages
from marc_core.video import list_videos
from pipelines import live_texts
from pipelines.live_text_makers import LocalTextMaker, Made
from pipelines.live_texts import FollowingTexts
from pipelines.texts import TEXT_WORK, StagesOn, TextsStage
from pipelines.writing import Writer
from tests.marc_core.memory import fakes
from tests.pipelines import fake_texts


class HeldMaker:
    """Makes texts in this process, one video at a time, when it is let; may die instead."""

    def __init__(self, config: WatchJobConfig) -> None:
        self.stage = TextsStage(config)
        self.held: dict[str, Any] | None = None
        self.is_let, self.dies = True, False

    @property
    def running(self) -> int:
        return int(self.held is not None)

    @property
    def is_free(self) -> bool:
        return self.held is None

    def start(self, row: dict[str, Any]) -> None:
        self.held = row

    def done(self) -> list[Made]:
        row = self.held
        if row is None or not self.is_let:
            return []
        self.held = None
        if self.dies:
            return [(row, None)]
        self.stage.store.refresh()
        work = {name: row[name] for name in TEXT_WORK.names}
        return [(row, self.stage.one(pa.Table.from_pylist([work], TEXT_WORK)).to_pylist()[0])]

    def close(self) -> None:
        pass


class Watched:
    """A memory of a source's videos, and what gives them texts."""

    def __init__(self, folder: Path, **watch: Any) -> None:
        self.folder = folder / "rec"
        self.folder.mkdir(exist_ok=True)
        self.config = WatchJobConfig(
            memory=MemoryConfig(uri=str(folder / "memory"), refresh_s=0.0),
            watch=WatchConfig(sources={"gate": SourceConfig(address=str(self.folder))}, **watch),
        )
        self.store = MemoryStore.open(self.config.memory, embedding_dim=fakes.DIM, create=True)
        self.writer = Writer(self.config, fakes.DIM, self.store)
        self.maker = HeldMaker(self.config)
        self.texts = FollowingTexts(self.config, StagesOn.of(self.config), self.store, self.maker)

    def index(self, *names: str, **values: Any) -> list[str]:
        """Publish videos in which their own name is said; return their ids."""
        made = []
        for name in names:
            (self.folder / name).write_text(json.dumps([[0.1, 0.9, f"this is {name[0]}"]]))
        for source in list_videos([str(self.folder)], ["*.mp4"], {}):
            if Path(source.uri).name in names:
                videos, *rest = fakes.tables_of(source.video_id, source.uri, 2)
                file = {n: getattr(source, n) for n in ("size_bytes", "version")}
                row = videos.to_pylist()[0] | file | {"tags": ["source:gate"]} | values
                self.store.publish(pa.Table.from_pylist([row], videos.schema), *rest)
                made.append(source.video_id)
        return made

    def step(self, *, may_start: bool = True, may_look: bool = False) -> None:
        self.texts.step(may_start=may_start, may_look=may_look)
        if rows := self.texts.gathered(at_once=True):
            self.writer.commit(rows)
            self.texts.written(rows)

    def said(self) -> dict[str, str | None]:
        return {
            Path(row["uri"]).name: self.store.events_of(row["video_id"])["text"][0].as_py()
            for row in self.store.videos().to_pylist()
        }


@pytest.fixture(autouse=True)
def fake_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = stages.StageKind(
        setting="speech", module=fake_texts.__name__, extra="speech", seconds_an_hour=360.0
    )
    monkeypatch.setattr(stages, "STAGES", {"speech": fake})
    monkeypatch.setattr(live_texts, "_LOOK_S", 0.0)
    fake_texts.LOOKED.clear()


def test_texts_follow_their_events(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.texts.offer(watched.index("a.mp4", "b.mp4"))
    watched.step(may_start=False)
    assert watched.texts.left == 2
    for _ in range(4):
        watched.step()
    assert watched.said() == {"a.mp4": "this is a", "b.mp4": "this is b"}
    assert (watched.texts.made, watched.texts.left, watched.texts.put_off) == (2, 0, 0)
    watched.step(may_look=True)
    assert fake_texts.LOOKED == ["a.mp4", "b.mp4"]


def test_what_is_too_much_is_put_off_until_nothing_else_is_to_do(tmp_path: Path) -> None:
    watched = Watched(tmp_path, texts_waiting=2)
    watched.maker.is_let = False
    for name in "abcde":
        watched.texts.offer(watched.index(f"{name}.mp4"))
        watched.step()
    assert (watched.texts.left, watched.texts.put_off) == (3, 2)  # a is being made; b, c wait
    watched.maker.is_let = True
    for _ in range(4):
        watched.step()
    assert fake_texts.LOOKED == ["a.mp4", "d.mp4", "e.mp4"]
    assert watched.said()["b.mp4"] is None
    for _ in range(4):
        watched.step(may_look=True)
    assert all(watched.said().values())
    assert watched.texts.put_off == 0


def test_the_next_start_finds_what_was_left(tmp_path: Path) -> None:
    Watched(tmp_path).index("a.mp4")
    Watched(tmp_path).index("x.mp4", tags=["source:other"])
    again = Watched(tmp_path)
    for _ in range(3):
        again.step(may_look=True)
    assert again.said() == {"a.mp4": "this is a", "x.mp4": None}


def test_a_video_that_takes_its_maker_along_is_tried_once_a_run(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.maker.dies = True
    watched.texts.offer(watched.index("a.mp4"))
    for _ in range(4):
        watched.step(may_look=True)
    assert (watched.texts.made, watched.texts.failed) == (0, 1)
    (row,) = watched.store.videos().to_pylist()
    assert row["warnings"][0].startswith("speech: No worker finished")
    again = Watched(tmp_path)
    for _ in range(3):
        again.step(may_look=True)
    assert again.said() == {"a.mp4": "this is a"}
    assert again.store.videos()["warnings"].to_pylist() == [[]]


def test_what_cannot_be_written_is_made_again_later(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.texts.offer(watched.index("a.mp4"))
    watched.texts.step(may_start=True, may_look=False)
    watched.texts.step(may_start=True, may_look=False)
    rows = watched.texts.gathered(at_once=True)
    watched.texts.lost(rows, 0.0)
    assert watched.texts.put_off == 1
    for _ in range(3):
        watched.step(may_look=True)
    assert watched.said() == {"a.mp4": "this is a"}


def test_a_recording_of_which_parts_are_missing_waits(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    missing = {"status": "failed", "error_class": "parts_missing"}
    watched.texts.offer(watched.index("a.mp4"))
    row = watched.store.videos().to_pylist()[0] | missing
    watched.store.tables.videos.update(values=missing, where=f"video_id = '{row['video_id']}'")
    watched.step(may_look=True)
    assert watched.texts.left == 0


def test_texts_of_synthetic_videos_are_not_made(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.texts.offer(watched.index("a.mp4", synthetic=True))
    watched.step(may_look=True)
    assert (watched.texts.left, fake_texts.LOOKED) == (0, [])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_child_makes_texts_and_comes_back_when_killed(tmp_path: Path) -> None:
    config = Watched(tmp_path).config
    maker = LocalTextMaker(config)
    row = {"video_id": "gone", "source": "{}", "kinds": ["speech"], "duration_s": 1.0}
    row = dict.fromkeys(TEXT_WORK.names) | row

    def made() -> Made:
        maker.start(row)
        until = time.monotonic() + 400
        while time.monotonic() < until:
            if found := maker.done():
                return found[0]
            if maker.pid and kill:
                os.kill(maker.pid, signal.SIGKILL)
            time.sleep(0.05)
        raise AssertionError("nothing came")

    kill = True
    assert made() == (row, None)
    kill = False
    _, answer = made()
    assert answer is not None
    assert answer["failed"]  # there is no such video, and it says so
    maker.close()
    assert maker.pid is None
