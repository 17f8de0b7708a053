"""`marc dedup` on a real memory: found, hidden from every search, shown again."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from marc_core import schemas
from marc_core.config import IndexConfig, MemoryConfig
from marc_core.duplicates.config import DedupConfig
from marc_core.duplicates.find import find_duplicates
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.memory.archive import MemoryArchive
from marc_core.question import EventFilter, SearchQuery
from marc_core.types import VideoSource
from marc_core.video.source import make_source
from marc_core.video_rows import base_row

DIM = 16
RNG = np.random.default_rng(7)
FILM = RNG.standard_normal((5, DIM)).astype(np.float32)
LENGTHS = (4.0, 7.0, 3.0, 5.0, 6.0)
OTHER = RNG.standard_normal((3, DIM)).astype(np.float32)
runner = CliRunner()


def publish(store: MemoryStore, uri: str, vectors: np.ndarray, lengths: Any, **row: Any) -> str:
    source = make_source(uri, 1, "1")
    video = base_row(source, 1, Fingerprints(cuts="c", embeddings="e", features=None)) | {
        "status": "indexed", "num_events": len(vectors), "num_parts": 1, "width": 640,
        "height": 360, "duration_s": float(sum(lengths)), **row,
    }  # fmt: skip
    starts = np.cumsum([0.0, *lengths])
    events = [
        {
            "event_id": schemas.make_event_id(source.video_id, 0, i), "part": 0, "index": i,
            "video_id": source.video_id, "start_s": starts[i], "end_s": starts[i + 1],
            "video_start_s": 0.0, "folder": "/v", "embedding": vector,
        }
        for i, vector in enumerate(vectors)
    ]  # fmt: skip
    store.publish(
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist(events, schema=schemas.events_schema(DIM)),
    )
    return source.video_id


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A film, the same file elsewhere, a smaller copy of its middle, and something else."""
    config = MemoryConfig(uri=str(tmp_path / "m"), refresh_s=0)
    store = MemoryStore.open(config, embedding_dim=DIM, create=True)
    publish(store, "/v/film.mp4", FILM, LENGTHS, content_digest="9-a")
    publish(store, "/v/copies/film.mp4", FILM, LENGTHS, content_digest="9-a")
    noise = RNG.standard_normal((3, DIM)).astype(np.float32) * 0.05
    publish(store, "/v/small.mp4", FILM[1:4] + noise, LENGTHS[1:4], width=320, height=180)
    publish(store, "/v/other.mp4", OTHER, (4.0, 7.0, 3.0))
    return store


def shown(store: MemoryStore, vector: np.ndarray | None = None) -> set[str]:
    """Return the addresses that a search finds."""
    archive = MemoryArchive(store, IndexConfig(memory=store.config))
    query = SearchQuery(text="x", limit=50)
    (hits,) = archive.search([query], np.stack([FILM[1] if vector is None else vector]))
    assert {h.event_id for h in archive.events(EventFilter(), limit=50)} == {
        h.event_id for h in hits
    }
    assert archive.count(EventFilter()) == len(hits)
    return {hit.uri for hit in hits}


def run(*arguments: str, ok: bool = True) -> str:
    result = runner.invoke(app, ["dedup", *arguments])
    assert (result.exit_code == 0) is ok, result.output
    return str(result.stdout if ok else result.output)


def test_listed_hidden_and_shown_again(store: MemoryStore) -> None:
    uri = store.config.uri
    everything = {f"/v/{name}.mp4" for name in ("film", "copies/film", "small", "other")}
    listed = json.loads(run("-m", uri, "--json"))
    found = {one["uri"]: one for one in listed["duplicates"]}
    assert set(found) == {"/v/copies/film.mp4", "/v/small.mp4"}
    assert {one["of_uri"] for one in found.values()} == {"/v/film.mp4"}
    assert found["/v/copies/film.mp4"]["kind"] == "bytes"
    small = found["/v/small.mp4"]
    assert (small["kind"], small["num_events"], small["whole"]) == ("similar", 3, True)
    assert small["offset_s"] == pytest.approx(-4.0)
    assert listed["hidden"] == 0
    assert shown(store) == everything  # listing has changed nothing

    applied = json.loads(run("-m", uri, "--apply", "--json"))
    assert applied["hidden"] == 8
    assert shown(store) == {"/v/film.mp4", "/v/other.mp4"}
    rows = {row["uri"]: row["duplicate_of"] for row in store.videos().to_pylist()}
    kept = store.get_video("/v/film.mp4")
    assert kept is not None
    assert [uri for uri, of in rows.items() if of == kept["video_id"]] == sorted(found)
    assert json.loads(run("-m", uri, "--json"))["duplicates"] == []  # nothing shown is the same
    assert json.loads(run("-m", uri, "--apply", "--json"))["hidden"] == 0

    assert json.loads(run("-m", uri, "--undo", "--video", "/v/small.mp4", "--json"))["shown"] == 3
    assert shown(store) == everything - {"/v/copies/film.mp4"}
    assert json.loads(run("-m", uri, "--undo", "--json"))["shown"] == 5
    assert shown(store) == everything
    assert store.videos()["duplicate_of"].null_count == 4


def test_kinds_and_tables_for_people(store: MemoryStore) -> None:
    uri = store.config.uri
    said = run("-m", uri, "--kind", "similar")
    assert "looks the same" in said.replace("\n", " ")
    assert "the same bytes" not in said
    assert "--kind must be bytes or similar" in run("-m", uri, "--kind", "names", ok=False)
    assert "give one of them" in run("-m", uri, "--apply", "--undo", ok=False)
    assert "no video '/v/none.mp4'" in run("-m", uri, "--video", "/v/none.mp4", ok=False)
    run("-m", uri, "--kind", "bytes", "--apply")
    assert shown(store) == {"/v/film.mp4", "/v/small.mp4", "/v/other.mp4"}
    assert "Nothing that is shown" in run("-m", uri, "--kind", "bytes")


def test_what_is_hidden_comes_back_when_what_was_kept_goes(store: MemoryStore) -> None:
    run("-m", store.config.uri, "--apply")
    store.delete_video("/v/film.mp4")
    assert shown(store) == {"/v/copies/film.mp4", "/v/small.mp4", "/v/other.mp4"}
    run("-m", store.config.uri, "--apply")
    assert shown(store) == {"/v/copies/film.mp4", "/v/other.mp4"}
    publish(store, "/v/copies/film.mp4", OTHER + 1, (1.0, 2.0, 3.0))  # indexed anew, cut otherwise
    assert "/v/small.mp4" in shown(store)


def test_a_kept_video_that_moves_keeps_its_copies_hidden(store: MemoryStore) -> None:
    run("-m", store.config.uri, "--apply")
    row = store.get_video("/v/film.mp4")
    assert row is not None
    store.rename_videos({row["video_id"]: make_source("/v/moved.mp4", 1, "1")})
    assert shown(store) == {"/v/moved.mp4", "/v/other.mp4"}
    assert store.show_duplicates() == 8


def test_a_filter_that_only_hidden_events_pass_says_so(store: MemoryStore) -> None:
    run("-m", store.config.uri, "--apply")
    archive = MemoryArchive(store, IndexConfig(memory=store.config))
    video = store.get_video("/v/small.mp4")
    assert video is not None
    only = EventFilter(video_ids=(video["video_id"],))
    assert archive.events(only, limit=5) == []
    assert "3 events that would pass" in archive.why_nothing(only)


def test_two_recordings_with_sure_clocks_at_other_times_are_two(store: MemoryStore) -> None:
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    clocks = {"/v/film.mp4": noon, "/v/small.mp4": noon + dt.timedelta(days=1)}
    config = DedupConfig(memory=store.config)

    def found(source: str) -> list[str]:
        for name, at in clocks.items():
            values = {"recorded_at": at, "recorded_source": source}
            store.tables.videos.update(where=f"uri = '{name}'", values=values)
        return [one.uri for one in find_duplicates(store, config)]

    assert found("sidecar") == ["/v/copies/film.mp4"]
    assert found("creation_time") == ["/v/copies/film.mp4", "/v/small.mp4"]  # may be an export's


def test_copies_have_the_rows_of_their_original(store: MemoryStore) -> None:
    original = store.get_video("/v/other.mp4")
    assert original is not None
    copy = make_source("/w/again.mp4", 1, "2")
    gone: VideoSource = make_source("/w/none.mp4", 1, "3")
    assert store.copy_videos({copy: original["video_id"], gone: "unknown"}) == [copy.video_id]
    assert store.copy_videos({copy: original["video_id"]}) == [copy.video_id]
    row = store.get_video("/w/again.mp4")
    assert row is not None
    assert (row["num_events"], row["folder"]) == (3, "/w")
    copied, own = (store.events_of(v).to_pylist() for v in (copy.video_id, original["video_id"]))
    assert [e["embedding"] for e in copied] == [e["embedding"] for e in own]
    assert store.events_of(original["video_id"]).num_rows == 3
    assert "/w/again.mp4" in shown(store, OTHER[0])
