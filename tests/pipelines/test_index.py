"""The indexing chain on real videos and a real LanceDB; once on a real Ray, see conftest.py."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.video.source import unreadable_folder
from marc_core.video_rows import failure_row
from pipelines.index import index_archive

NO_TEXT = ("text.speech=off", "text.writing=off")
"""Of files that are no videos of the world; text stages have tests of their own."""
BAD = {"empty.mp4", "text.mp4", "half.mp4", "audio.mp4"}


def configure(archive: Path, memory: Path, *overrides: str) -> IndexConfig:
    return load_config(
        IndexConfig,
        preset="tiny",
        overrides=[f"archive=['{archive}']", f"memory.uri='{memory}'", *NO_TEXT, *overrides],
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_archive_ends_as_rows_on_ray(archive: Path, tmp_path: Path) -> None:
    config = configure(archive, tmp_path / "memory")
    seen: list[tuple[int, int, int]] = []
    report = index_archive(config, lambda *counts: seen.append(counts))
    assert (report.found, report.indexed, report.failed) == (6, 2, 4)
    assert seen[-1] == (6, 4, 6)
    check_rows(config)


@pytest.mark.usefixtures("chains")
def test_features_are_redone_without_a_new_cut(archive: Path, tmp_path: Path) -> None:
    config = configure(archive, tmp_path / "memory")
    index_archive(config)
    before = MemoryStore.open(config.memory).tables.events.to_arrow().sort_by("event_id")
    seen: list[tuple[int, int, int]] = []
    other = configure(archive, tmp_path / "memory", "compress.stored_tokens=20")
    report = index_archive(other, lambda *counts: seen.append(counts))
    assert (report.already, report.features_redone, report.still_failing) == (2, 2, 4)
    assert seen[-1] == (2, 0, 2)
    store = MemoryStore.open(config.memory)
    assert store.tables.events.to_arrow().sort_by("event_id").equals(before), "no new cut"
    stored = store.tables.features.to_arrow()["fingerprint"].unique().to_pylist()
    rows = [row for row in store.videos().to_pylist() if row["status"] == "indexed"]
    assert stored == [rows[0]["features_fingerprint"]] == [rows[1]["features_fingerprint"]]


def check_rows(config: IndexConfig) -> None:
    """Check the rows of `archive`: two good clips with two events each, four bad files."""
    store = MemoryStore.open(config.memory)
    videos = {Path(row["uri"]).name: row for row in store.videos().to_pylist()}
    assert {name for name, row in videos.items() if row["status"] == "failed"} == BAD
    assert all(row["error_message"] for name, row in videos.items() if name in BAD)
    for i in range(2):
        row = videos[f"good{i}.mp4"]
        assert (row["num_frames"], row["width"], row["height"]) == (40, 160, 96)
        events = store.events_of(row["video_id"]).to_pylist()
        assert len(events) == row["num_events"] == 2
        starts_and_ends = [(e["start_s"], e["end_s"]) for e in events]
        assert np.allclose(starts_and_ends, [(0.0, 2.0), (2.0, 4.0)], atol=0.11)
        assert all(np.isclose(np.linalg.norm(e["embedding"]), 1, atol=1e-5) for e in events)
        assert all(e["thumbnail"].startswith(b"\xff\xd8") for e in events)


@pytest.mark.usefixtures("chains")
def test_a_rerun_does_what_is_new_or_changed(archive: Path, tmp_path: Path) -> None:
    config = configure(archive, tmp_path / "memory")
    assert index_archive(config).indexed == 2
    check_rows(config)

    again = index_archive(config)
    assert (again.already, again.indexed, again.failed, again.still_failing) == (2, 0, 0, 4)

    os.utime(archive / "good1.mp4", ns=(10**18, 10**18))
    third = index_archive(config)
    assert (third.already, third.indexed, third.still_failing) == (1, 1, 4)
    uris = [row["uri"] for row in MemoryStore.open(config.memory).videos().to_pylist()]
    assert len(uris) == len(set(uris)) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("chains")
def test_new_videos_moves_and_other_texts_in_one_run(
    archive: Path, tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    """Later captions and moves are done by the driver, beside the new video's way through Ray."""
    config = configure(archive, tmp_path / "memory")
    assert index_archive(config).indexed == 2
    clip_writer(archive / "new.mp4", seed=9)
    (archive / "good0.mp4").rename(archive / "moved.mp4")
    words = "1\n00:00:02,500 --> 00:00:03,000\nhippopotamus\n"
    (archive / "good1.en.srt").write_text(words)
    report = index_archive(config)
    assert (report.indexed, report.moved, report.texts_updated) == (1, 1, 1)
    assert (report.found, report.already, report.still_failing) == (7, 2, 4)
    store = MemoryStore.open(config.memory)
    assert store.get_video(str(archive / "good0.mp4")) is None
    row = store.get_video(str(archive / "good1.mp4"))
    assert row is not None
    assert store.events_of(row["video_id"])["text"].to_pylist() == [None, "hippopotamus"]


@pytest.mark.usefixtures("chains")
def test_a_changed_setting_indexes_again(archive: Path, tmp_path: Path) -> None:
    index_archive(configure(archive, tmp_path / "memory"))
    report = index_archive(configure(archive, tmp_path / "memory", "events.max_event_s=2.0"))
    assert (report.already, report.indexed, report.failed) == (0, 2, 4)
    assert len(MemoryStore.open(configure(archive, tmp_path / "memory").memory).videos()) == 6


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_poison_file_costs_three_runs_and_is_then_left_alone(
    archive: Path, tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    poison = archive / "poison.mp4"
    clip_writer(poison, seconds=120.0)  # seconds of work: time to be caught in
    config = configure(archive, tmp_path / "memory")
    for attempt in (1, 2, 3):
        with whoever_opens_dies(poison):
            report = index_archive(config)
        assert report.indexed == (2 if attempt == 1 else 0)
        assert report.failures["decoder_crash"] == 1
        row = MemoryStore.open(config.memory).get_video(str(poison))
        assert row is not None
        assert (row["error_class"], row["attempts"]) == ("decoder_crash", attempt)
        assert "SIGKILL" in row["error_message"]
        assert row["status"] == ("quarantined" if attempt == 3 else "failed")
    assert report.quarantined == 1

    fourth = index_archive(config)
    assert (fourth.already, fourth.still_failing, fourth.quarantined) == (2, 4, 1)
    assert (fourth.indexed, fourth.failed) == (0, 0)
    asked = index_archive(configure(archive, tmp_path / "memory", "retry_failed=true"))
    assert (asked.indexed, asked.failed) == (1, 4)  # it was not the file, after all


@contextmanager
def whoever_opens_dies(path: Path) -> Iterator[None]:
    """SIGKILL every decoding child that has `path` open: a file that kills its decoder."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended meanwhile
                    if b"marc_core.video.child" not in (process / "cmdline").read_bytes():
                        continue
                    if any(os.readlink(h) == str(path) for h in (process / "fd").iterdir()):
                        os.kill(int(process.name), signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("chains")
def test_a_folder_s_row_goes_once_it_can_be_listed(tmp_path: Path, clip_writer) -> None:
    archive = tmp_path / "archive"
    clip_writer(archive / "clip.mp4", seconds=2.0)
    config = configure(archive, tmp_path / "memory")
    index_archive(config)
    store = MemoryStore.open(config.memory)
    shut, elsewhere = f"{archive}/sub", f"{tmp_path}/other"
    for folder in (shut, elsewhere):
        row = failure_row(
            unreadable_folder(folder, "Permission denied"),
            attempts=1,
            max_attempts=3,
            fingerprints=Fingerprints(cuts="", embeddings="", features=None),
            kind="source",
            message="cannot be listed",
        )
        store.record_failures(row)
    (archive / "sub").mkdir()
    index_archive(config)
    uris = [row["uri"] for row in MemoryStore.open(config.memory).videos().to_pylist()]
    assert uris == [str(archive / "clip.mp4"), f"{elsewhere}/"]


def two_cameras(path: Path) -> None:
    """Write a file with a red and a blue video stream."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for stream, colour in zip(streams, ((220, 30, 30), (30, 30, 220)), strict=True):
            picture = np.full((64, 96, 3), colour, np.uint8)
            for _ in range(20):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())


@pytest.mark.usefixtures("chains")
def test_only_the_streams_that_are_missing_are_indexed(tmp_path: Path, clip_writer) -> None:
    archive = tmp_path / "archive"
    two_cameras(archive / "cameras.mp4")
    clip_writer(archive / "one.mp4", seconds=2.0)
    first = configure(archive, tmp_path / "memory")
    report = index_archive(first)
    assert (report.found, report.indexed, report.more_streams) == (2, 2, 1)
    rows = rows_by_name(first)
    assert rows.keys() == {"cameras.mp4", "one.mp4"}
    assert "1 more video stream" in rows["cameras.mp4"]["warnings"][0]

    every = configure(archive, tmp_path / "memory", "video.streams=all")
    report = index_archive(every)
    assert (report.found, report.indexed, report.already) == (3, 1, 2), "only what is missing"
    assert report.more_streams == 0
    again = rows_by_name(every)
    assert again.keys() == {"cameras.mp4", "cameras.mp4#1", "one.mp4"}
    assert again["cameras.mp4"]["indexed_at"] == rows["cameras.mp4"]["indexed_at"]
    assert index_archive(every).indexed == 0


@pytest.mark.slow
@pytest.mark.usefixtures("chains")
def test_streams_that_a_run_meets_are_indexed_by_the_same_run(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    two_cameras(archive / "cameras.mp4")
    at_once = configure(archive, tmp_path / "memory", "video.streams=all")
    report = index_archive(at_once)
    assert (report.found, report.indexed) == (2, 2)
    rows = rows_by_name(at_once)
    assert rows.keys() == {"cameras.mp4", "cameras.mp4#1"}
    assert rows["cameras.mp4#1"]["num_streams"] == 2
    assert rows["cameras.mp4"]["warnings"] == []
    assert index_archive(at_once).indexed == 0


def rows_by_name(config: IndexConfig) -> dict[str, dict]:
    rows = MemoryStore.open(config.memory).videos().to_pylist()
    return {Path(row["uri"]).name: row for row in rows}
