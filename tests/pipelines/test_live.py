"""From a live source into the memory, in one process: recorded, indexed, searchable, resumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.demo_footage import spoken_folder
from jobs.footage import Clip, Shot, write_clip
from marc_core.config import EventConfig, MemoryConfig, TextConfig, VideoConfig
from marc_core.live.config import SourceConfig, WatchConfig, WatchJobConfig
from marc_core.schemas import PARTS_MISSING
from marc_core.video.source import make_source
from pipelines.live import Watch
from pipelines.live_state import Hooks, Searchable, Waiting
from pipelines.live_workers import Job
from tests.live_hls import LiveHls, encode_piece
from tests.marc_core.films import film


def job(folder: Path, address: str, **watch) -> WatchJobConfig:
    watch = {"segment_s": 1.0, "folder": str(folder / "live"), "poll_s": 0.2} | watch
    return WatchJobConfig(
        text=TextConfig(speech="off", writing="off"),
        memory=MemoryConfig(uri=str(folder / "memory"), refresh_s=0.0, store_features=False),
        events=EventConfig(min_event_s=0.5),
        watch=WatchConfig(sources={"gate": SourceConfig(address=address)}, **watch),
    )


def run_until(watch: Watch, heard: list[Searchable], count: int, seconds: float = 300.0) -> None:
    stop = threading.Event()

    def wait() -> None:
        until = time.monotonic() + seconds
        while len(heard) < count and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=wait).start()
    watch.run(stop)


def wait_for(condition: Callable[[], bool], seconds: float = 1200.0) -> None:
    """Wait until the condition holds; where it never does, the test says so by what it asserts."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


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
    assert (row["tags"], row["recorded_source"]) == (["source:gate"], "mtime")
    ended = row["recorded_at"].timestamp() + row["duration_s"]
    assert ended == pytest.approx(file.stat().st_mtime, abs=0.01)


def test_what_cameras_send_goes_before_files_of_folders() -> None:
    waiting = Waiting()
    for name, is_live, at_s in [("a", False, 0), ("b", True, 0), ("c", False, 0), ("d", True, 0)]:
        video = make_source(f"/{name}", 1, "1")
        made = Job(source="s", video=video, camera="", tags=(), is_live=is_live)
        waiting.later.append((at_s, made))
    waiting.later.append((time.monotonic() + 60, made))
    taken = [waiting.next(also_files=True) for _ in range(3)]
    assert [job.video.uri for job in taken if job] == ["/b", "/d", "/a"]
    assert waiting.next(also_files=False) is None
    assert len(waiting) == 2


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_what_is_said_and_written_follows_the_events(tmp_path: Path) -> None:
    shot = Shot(
        seconds=8.0, colours=("maroon", "mistyrose"), sign="OPEN UNTIL SIX", spoken="bakery"
    )
    write_clip(Clip(name="a", seed=1, shots=(shot,)), tmp_path / "a.ts", spoken_folder())
    with LiveHls(seconds=8.0) as live:
        live.add((tmp_path / "a.ts").read_bytes(), time.time() - 8)
        config = job(tmp_path, live.address, segment_s=8.0)
        watch, _, said = watched(replace(config, text=TextConfig()))
        stop, made_before = threading.Event(), []
        watch.hooks.searchable = lambda one: made_before.append(watch.texts.made)
        threading.Thread(
            target=lambda: (wait_for(lambda: watch.texts.made + watch.texts.failed > 0), stop.set())
        ).start()
        watch.run(stop)
    (video,) = watch.store.videos().to_pylist()
    assert video["warnings"] == [], said
    events = watch.store.events_of(video["video_id"])
    text = " ".join(text or "" for text in events["text"].to_pylist())
    assert "OPEN UNTIL SIX" in text
    assert "bakery" in text
    assert made_before == [0]
    assert watch.report()["texts"] == {"videos": 1, "failed": 0, "left": 0}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_long_recording_in_a_folder_is_indexed_in_parts_and_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    path = film(tmp_path / "rec" / "a.mp4")
    config = job(tmp_path, str(path.parent), stable_s=0.0, end_s=0.0)
    config = replace(config, video=VideoConfig(part_s=20.0, frame_max_pixels=28 * 28))
    watch, _, said = watched(config)

    def parts() -> list[str]:
        return [row["status"] for row in watch.store.parts().to_pylist()]

    stop = threading.Event()
    threading.Thread(target=lambda: (wait_for(lambda: "indexed" in parts()), stop.set())).start()
    watch.run(stop)
    assert said == []
    (row,) = watch.store.videos().to_pylist()
    assert (row["error_class"], row["num_events"] > 0) == (PARTS_MISSING, True)
    done = [part for part in watch.store.parts().to_pylist() if part["status"] == "indexed"]
    assert len(done) < 4
    again, heard, said = watched(replace(config, watch=replace(config.watch, end_s=60.0)))
    run_until(again, heard, 1, seconds=1200.0)
    (row,) = again.store.videos().to_pylist()
    assert (row["status"], row["num_parts"], row["num_frames"], said) == ("indexed", 4, 800, [])
    assert (row["camera"], row["tags"], row["recorded_source"]) == (
        "gate",
        ["source:gate"],
        "mtime",
    )
    ended = row["recorded_at"].timestamp() + row["duration_s"]
    assert ended == pytest.approx(path.stat().st_mtime, abs=0.01)
    kept = {part["part"]: part["updated_at"] for part in again.store.parts().to_pylist()}
    assert [kept[part["part"]] for part in done] == [part["updated_at"] for part in done]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_prefix_of_a_bucket_is_a_source(tmp_path: Path) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys
    )
    client.create_bucket(Bucket="live-bucket")
    whole = encode_piece(0, seconds=2.0)
    client.put_object(Bucket="live-bucket", Key="cam/2026/a.ts", Body=whole)
    client.put_object(Bucket="live-bucket", Key="other/b.ts", Body=whole)
    options = {
        "endpoint_override": f"http://{host}:{port}", "region": "us-east-1", "access_key": "key",
        "secret_key": "secret",
    }  # fmt: skip
    config = job(tmp_path, "s3://live-bucket/cam", stable_s=0.5)
    try:
        watch, heard, said = watched(replace(config, archive_options=options))
        later = threading.Timer(
            3.0, lambda: client.put_object(Bucket="live-bucket", Key="cam/c.ts", Body=whole)
        )
        later.start()
        run_until(watch, heard, 2, seconds=1200.0)
    finally:
        server.stop()
    rows = watch.store.videos().to_pylist()
    assert [(row["uri"], row["status"], row["camera"]) for row in rows] == [
        ("s3://live-bucket/cam/2026/a.ts", "indexed", "gate"),
        ("s3://live-bucket/cam/c.ts", "indexed", "gate"),
    ], said
    assert {row["recorded_source"] for row in rows} == {"mtime"}


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
