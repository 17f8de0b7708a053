"""`marc status` of a real memory: plain words, full names where short ones repeat, no markup."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.status import short_names
from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore
from marc_core.memory.gaps import Gap

runner = CliRunner()
DIM = 4


def video(video_id: str, uri: str, **values: object) -> dict[str, object]:
    row = {
        "video_id": video_id, "uri": uri, "size_bytes": 1, "version": "1", "attempts": 1,
        "folder": "/a", "warnings": [], "cuts_fingerprint": "c1", "embeddings_fingerprint": "e1",
        "features_fingerprint": "f1", "indexed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }  # fmt: skip
    return row | values


@pytest.fixture
def memory(tmp_path: Path) -> str:
    store = MemoryStore.open(
        MemoryConfig(uri=str(tmp_path / "m")), embedding_dim=DIM, encoder_fingerprint="enc",
        create=True,
    )  # fmt: skip
    good = video(
        "v1", "/a/[bold]good.mp4", status="indexed", num_events=1, num_parts=1, duration_s=90.0,
        warnings=["sidecar x.srt: [/i] is no text."],
    )  # fmt: skip
    event = {
        "event_id": schemas.make_event_id("v1", 0, 0), "video_id": "v1", "part": 0, "index": 0,
        "start_s": 0.0, "end_s": 90.0, "video_start_s": 0.0, "folder": "/a",
        "embedding": np.ones(DIM, np.float32),
    }  # fmt: skip
    store.publish(
        pa.Table.from_pylist([good], schema=schemas.VIDEOS),
        pa.Table.from_pylist([event], schema=schemas.events_schema(DIM)),
    )
    bad = {"status": "failed", "error_class": "unreadable", "error_message": "no [/video] stream"}
    store.record_failures(
        pa.Table.from_pylist(
            [video("v2", "/a/x.mp4", **bad), video("v3", "/b/x.mp4", **bad)], schema=schemas.VIDEOS
        )
    )
    return store.config.uri


def test_plain_words(memory: str) -> None:
    result = runner.invoke(app, ["status", "-m", memory])
    assert result.exit_code == 0, result.output
    for words in (
        "3 videos: 1 indexed, 2 failed",
        "not indexed because: 2 unreadable",
        "with warnings: 1 video (",
        "1.5 min of video in 1 event\n",
        "cuts c1: where events begin and end",
        "encoder enc, 4 dimensions",
        "format 2",
    ):
        assert words in result.output


def test_embeddings_that_wait_are_said(memory: str) -> None:
    store = MemoryStore.open(MemoryConfig(uri=memory))
    row = {
        "event_id": "v:0000:00000", "video_id": "v", "fingerprint": "next", "frames_digest": "",
        "embedding": [1.0, 0.0],
    }  # fmt: skip
    store.stage_embeddings(pa.Table.from_pylist([row], schema=schemas.embeddings_schema(2)))
    output = runner.invoke(app, ["status", "-m", memory]).output
    assert "waiting for those of all events: 1 embedding of encoder next" in output
    dropped = runner.invoke(app, ["optimize", "-m", memory, "--orphans"]).output
    assert "1 orphaned embeddings_next" in " ".join(dropped.split())
    assert "encoder next" not in runner.invoke(app, ["status", "-m", memory]).output


def test_failures_and_warnings_are_listed_as_they_are(memory: str) -> None:
    result = runner.invoke(app, ["status", "-m", memory, "--failures", "--warnings"])
    assert result.exit_code == 0, result.output
    for words in ("/a/x.mp4", "/b/x.mp4", "[/video]", "[bold]good.mp4", "[/i]"):
        assert words in result.output
    data = json.loads(
        runner.invoke(app, ["status", "-m", memory, "--failures", "--warnings", "--json"]).stdout
    )
    assert len(data["failed_videos"]) == 2
    assert data["videos_with_warnings"][0]["warnings"] == ["sidecar x.srt: [/i] is no text."]
    assert data["fingerprints"]["cuts"] == {"c1": 1}


def test_nothing_to_list_is_a_sentence_not_an_empty_table(memory: str) -> None:
    store = MemoryStore.open(MemoryConfig(uri=memory))
    store.delete_videos(["v1", "v2", "v3"])
    result = runner.invoke(app, ["status", "-m", memory, "--failures", "--warnings"])
    assert result.exit_code == 0, result.output
    assert "No failures among the videos that the memory knows." in result.output
    assert "No video has warnings." in result.output
    assert "attempts" not in result.output


def test_names_are_short_where_they_are_one() -> None:
    assert short_names(["/a/x.mp4", "/b/x.mp4", "/b/y.mp4", "s3://b/shut/"]) == {
        "/a/x.mp4": "/a/x.mp4", "/b/x.mp4": "/b/x.mp4", "/b/y.mp4": "y.mp4",
        "s3://b/shut/": "shut",
    }  # fmt: skip


def test_gaps_of_live_sources_are_told(memory: str) -> None:
    store = MemoryStore.open(MemoryConfig(uri=memory))
    at = dt.datetime(2026, 5, 28, 20, tzinfo=dt.UTC)
    store.record_gaps([Gap("gate", at, at + dt.timedelta(seconds=90), "refused")])
    store.record_gaps([Gap("gate", at + dt.timedelta(hours=1), None, "[red]away")])
    shown = runner.invoke(app, ["status", "--memory", memory, "--gaps"]).output
    assert "live source gate: 2 gaps of 90.0 s, one goes on" in shown
    assert "[red]away" in shown
    report = json.loads(runner.invoke(app, ["status", "--memory", memory, "--json"]).output)
    assert report["gaps"] == {"gate": {"gaps": 2, "open": 1, "seconds": 90.0}}
