"""From a live source into the memory, in one process: recorded, indexed, searchable, resumed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from marc_core.live.config import SourceConfig, WatchConfig, WatchJobConfig
from pipelines.live import Hooks, Searchable, Watch
from tests.live_hls import LiveHls, encode_piece


def job(folder: Path, address: str, **watch) -> WatchJobConfig:
    from marc_core.config import EventConfig, MemoryConfig

    watch = {"segment_s": 1.0, "folder": str(folder / "live"), "poll_s": 0.2} | watch
    return WatchJobConfig(
        memory=MemoryConfig(uri=str(folder / "memory"), refresh_s=0.0, store_features=False),
        events=EventConfig(min_event_s=0.5),
        watch=WatchConfig(sources={"gate": SourceConfig(address=address)}, **watch),
    )


def run_until(watch: Watch, heard: list[Searchable], count: int, seconds: float = 60.0) -> None:
    stop = threading.Event()

    def wait() -> None:
        until = time.monotonic() + seconds
        while len(heard) < count and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=wait).start()
    watch.run(stop)


def watched(config: WatchJobConfig) -> tuple[Watch, list[Searchable], list[str]]:
    heard: list[Searchable] = []
    said: list[str] = []
    watch = Watch(config, hooks=Hooks(say=said.append, searchable=heard.append))
    return watch, heard, said


def test_a_stream_is_recorded_and_searchable_and_what_was_left_is_taken_up(tmp_path: Path) -> None:
    start_s = time.time() - 4
    with LiveHls() as live:
        for number in range(3):
            live.add(encode_piece(number), start_s + number)
        watch, heard, said = watched(job(tmp_path, live.address))
        run_until(watch, heard, 2)
    rows = watch.store.videos().to_pylist()
    assert [row["status"] for row in rows] == ["indexed"] * 3, said
    assert [round(r["recorded_at"].timestamp() - start_s, 2) for r in rows] == [0.0, 1.0, 2.0]
    assert {row["camera"] for row in rows} == {"gate"}
    assert rows[0]["tags"] == ["source:gate", "clock:program_date_time"]
    assert watch.report()["sources"]["gate"]["events"] == watch.store.status()["events"]
    watch.store.delete_videos([rows[1]["video_id"]])  # as if it had been killed before this one
    again, heard, _ = watched(job(tmp_path, live.address))
    run_until(again, heard, 1)
    assert [Path(one.uri).name for one in heard] == [Path(rows[1]["uri"]).name]
    (gap,) = again.store.gaps() or [None]
    assert gap is None or gap.until is None


def test_a_growing_folder_has_no_failures(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    whole = encode_piece(0, seconds=2.0)
    file = tmp_path / "rec" / "a.ts"
    file.write_bytes(whole[:200])  # an unreadable beginning, as of a recorder that goes on
    config = job(tmp_path, str(tmp_path / "rec"), stable_s=1.0)
    watch, heard, said = watched(config)

    def grow() -> None:
        for end in range(3000, len(whole) + 3000, 3000):
            file.write_bytes(whole[:end])
            time.sleep(0.2)

    threading.Thread(target=grow).start()
    run_until(watch, heard, 1)
    assert said == []
    (row,) = watch.store.videos().to_pylist()
    assert (row["status"], row["num_frames"], row["camera"]) == ("indexed", 20, "gate")
    assert row["tags"] == ["source:gate"]


@pytest.mark.ray
@pytest.mark.slow
def test_actors_of_a_cluster_index_what_is_recorded_here(ray_cluster: None, tmp_path: Path) -> None:
    start_s = time.time() - 4
    with LiveHls() as live:
        for number in range(3):
            live.add(encode_piece(number), start_s + number)
        heard: list[Searchable] = []
        watch = Watch(
            job(tmp_path, live.address), on_ray=True, hooks=Hooks(searchable=heard.append)
        )
        run_until(watch, heard, 3, seconds=120.0)
    assert [row["status"] for row in watch.store.videos().to_pylist()] == ["indexed"] * 3


@pytest.mark.slow
def test_a_minute_with_a_break_a_new_size_and_a_clock_that_jumps(tmp_path: Path) -> None:
    with LiveHls(kept=4) as live:
        watch, _, _ = watched(
            job(tmp_path, live.address, segment_s=3.0, retry_most_s=2.0, gap_s=1.5)
        )

        def show() -> None:
            live.play(15)
            live.is_down = True
            time.sleep(8)  # longer than the playlist reaches back, and nothing happens
            live.is_down = False
            live.play(12, size=(320, 192))
            live.play(12, clock_ahead_s=3600)
            done.set()

        done, stop = threading.Event(), threading.Event()
        threading.Thread(target=show).start()
        threading.Thread(target=lambda: (done.wait(120), time.sleep(3), stop.set())).start()
        watch.run(stop)
    rows = watch.store.videos().to_pylist()
    assert {row["status"] for row in rows} == {"indexed"}
    assert {row["width"] for row in rows} == {160, 320}
    assert sum(row["num_frames"] for row in rows) >= 10 * 37
    reasons = [gap.reason for gap in watch.store.gaps()]
    assert len(reasons) == 2, reasons
    assert "jumped by +36" in reasons[1]
    assert watch.left == 0
