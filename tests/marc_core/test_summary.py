"""Summaries cite times of notes, whatever the student writes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import marc_core
from marc_core import schemas
from marc_core.errors import AnswerError
from marc_core.memory import MemoryStore
from marc_core.summary import Note, fitted, summarize, summary_prompt, with_times
from tests.marc_core.engines import EchoEngine


def note(start_s: float, text: str, *, uri: str = "a.mp4", kind: str = "caption") -> Note:
    return Note(event_id="e", uri=uri, start_s=start_s, end_s=start_s + 5, kind=kind, text=text)


NOTES = [note(0, "a street"), note(65, "to the harbour", kind="speech"), note(90, "a ship")]


def test_numbers_become_the_times_of_their_notes():
    text, cited, unfounded = with_times("A street is shown [1]. A ship leaves [2, 3][9].", NOTES)
    assert text == "A street is shown [0:00.0]. A ship leaves [1:05.0, 1:30.0]."
    assert cited == tuple(NOTES)
    assert unfounded == 1


def test_ranges_of_notes_and_other_brackets():
    text, cited, _ = with_times("It goes on [2-3] [sic] and [see 1].", NOTES)
    assert text == "It goes on [1:05.0, 1:30.0] [sic] and [see 1]."
    assert cited == tuple(NOTES[1:])


def test_times_of_several_videos_carry_their_name():
    text, _, _ = with_times("Gone [2].", [NOTES[0], note(3, "gone", uri="s3://b/b.mp4")])
    assert text == "Gone [b.mp4 0:03.0]."


def test_notes_that_do_not_fit_are_left_out_evenly():
    many = [note(10.0 * i, "word") for i in range(100)]
    kept = fitted(many, 60, lambda text: 2)
    assert kept == many[::4]
    assert fitted(many, 0, lambda text: 2) == many[:1]


def test_the_prompt_numbers_notes_and_says_how_each_was_found():
    prompt = summary_prompt(NOTES, 3)
    assert "[2] 1:05.0 - 1:10.0 said: to the harbour" in prompt
    assert "notes on a video" in prompt
    assert "at most 3 sentences" in prompt


class Writer(EchoEngine):
    """Writes one sentence about the first note and one about a note that does not exist."""

    def _text(self, request: Any, index: int) -> str:
        return "It begins [1]. It ends [77]."


@pytest.fixture(scope="module")
def session(small_memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A memory whose first video has a caption for every event."""
    copy = tmp_path_factory.mktemp("summary") / "memory"
    shutil.copytree(small_memory / "runs" / "memory", copy)
    with marc_core.open(copy) as opened:
        opened.ends = caption_events(opened.store, opened.video_id("video1.mp4"))
        yield opened


def caption_events(store: MemoryStore, video: str) -> list[float]:
    """Caption the first two events alike and all others alike; return where the events end."""
    events = store.events_of(video).to_pylist()
    assert len(events) >= 3
    captions = ["the forest", "the forest", *["the city"] * (len(events) - 2)]
    caption_all(store, video, events, captions)
    return [event["end_s"] for event in events]


def caption_all(
    store: MemoryStore, video: str, events: list[dict[str, Any]], captions: list[str]
) -> None:
    """Write one caption for each event."""
    rows = [
        {
            "text_id": schemas.make_text_id(event["event_id"], "caption", 0),
            "event_id": event["event_id"], "video_id": video, "kind": "caption",
            "start_s": event["start_s"], "end_s": event["end_s"], "text": caption,
            "fingerprint": "test",
        }
        for event, caption in zip(events, captions, strict=True)
    ]  # fmt: skip
    store.tables.texts.add(pa.Table.from_pylist(rows, schema=schemas.TEXTS))


def test_the_tiny_student_gives_the_notes_each_once(session):
    summary = summarize(session, video="video1.mp4")
    assert summary.text == ""
    assert [n.text for n in summary.cited] == ["the forest", "the city"]
    first, second = summary.cited
    assert (first.start_s, first.end_s) == (0, pytest.approx(session.ends[1]))
    assert second.end_s == pytest.approx(session.ends[-1])


def test_a_part_of_a_video_has_its_own_notes(session):
    summary = summarize(session, video="video1.mp4", end_s=session.ends[0] - 0.1)
    assert [n.text for n in summary.cited] == ["the forest"]
    with pytest.raises(AnswerError, match="nothing to summarise"):
        summarize(session, video="video1.mp4", start_s=1000.0)


def test_a_student_that_writes_cites_what_it_read(session, monkeypatch):
    engine = Writer()
    monkeypatch.setitem(session.__dict__, "engine", engine)
    prose = dataclasses.replace(session.files.settings, prose=True)
    monkeypatch.setattr(session.files, "settings", prose)
    summary = summarize(session, video="video1.mp4")
    assert summary.text == "It begins [0:00.0]. It ends."
    assert [n.text for n in summary.cited] == ["the forest"]
    assert summary.unfounded == 1
    (request,) = engine.requests
    assert request.evidence.num_tokens == 0


def test_a_memory_without_texts_says_how_they_are_made(small_memory: Path):
    with (
        marc_core.open(small_memory / "runs" / "memory") as opened,
        pytest.raises(AnswerError, match=r"text\.captions=on"),
    ):
        summarize(opened, video="video1.mp4")


@pytest.mark.slow
def test_the_tiny_presets_notes_are_what_the_world_knows(small_memory: Path, tmp_path: Path):
    """Each event's caption names the place of the scene that is shown at its middle."""
    from marc_core.config import MethodConfig, load_config
    from marc_core.text.captioning import make_stage
    from marc_core.text.stage import Span
    from marc_core.world import sample_video
    from tests.marc_core.memories import FIVE_SCENES

    shutil.copytree(small_memory / "runs" / "memory", tmp_path / "memory")
    stage = make_stage(load_config(MethodConfig, preset="tiny"))
    with marc_core.open(tmp_path / "memory") as opened:
        video = opened.video_id("video1.mp4")
        events = opened.store.events_of(video).to_pylist()
        names = ("event_id", "start_s", "end_s")
        spans = [
            Span(**{n: e[n] for n in names}, frame_times_s=tuple(e["frame_times_s"]))
            for e in events
        ]
        lines = stage.texts(str(small_memory / "archive" / "video1.mp4"), spans).lines
        stage.close()
        told = {line.start_s: line.text for line in lines}
        caption_all(opened.store, video, events, [told[e["start_s"]] for e in events])
        notes = summarize(opened, video="video1.mp4").cited
    scenes = sample_video(1, FIVE_SCENES).events
    for note in notes:
        middle_s = (note.start_s + note.end_s) / 2
        (scene,) = (s for s in scenes if s.start_s <= middle_s < s.end_s)
        assert scene.background in note.text.split("; "), note
    assert notes[0].start_s == 0
    assert notes[-1].end_s == pytest.approx(scenes[-1].end_s, abs=0.1)
