"""`marc watch` as people start and stop it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.watch import resolve
from marc_core.config import MemoryConfig
from marc_core.errors import ConfigError, MemoryStoreError
from marc_core.memory import MemoryStore
from tests.live_hls import LiveHls

ROOT = Path(__file__).resolve().parents[2]


def test_sources_are_named_or_name_themselves() -> None:
    config = resolve(
        ["gate=rtsp://u:p@h/s", "http://cam.example/live.m3u8", "watch.keep_days=3"],
        "runs/m", None, [],
    )  # fmt: skip
    addresses = {name: source.address for name, source in config.watch.sources.items()}
    assert addresses == {
        "gate": "rtsp://u:p@h/s", "cam-example-live": "http://cam.example/live.m3u8",
    }  # fmt: skip
    assert (config.watch.keep_days, config.memory.uri) == (3.0, "runs/m")
    with pytest.raises(ConfigError, match="Two sources have the id") as twice:
        resolve(["rtsp://u:hidden@h/s?a=1", "rtsp://h/s?a=2"], None, None, [])
    assert "hidden" not in str(twice.value)


def test_sources_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("watch: {sources: {gate: {address: 'rtsp://h/s', camera: Gate 3, tags: [n]}}}")
    (source,) = resolve([], None, None, [file]).watch.sources.values()
    assert (source.camera, source.tags) == ("Gate 3", ("n",))


def test_a_dry_run_shows_no_password() -> None:
    shown = CliRunner().invoke(app, ["watch", "gate=rtsp://admin:hunter2@h/s", "--dry-run"])
    assert shown.exit_code == 0
    assert "rtsp://h/s" in shown.output
    assert "hunter2" not in shown.output


def test_what_is_not_allowed_ends_at_once() -> None:
    result = CliRunner().invoke(app, ["watch", "gopher://h/s", "--memory", "nowhere"])
    assert result.exit_code == 2
    assert not Path("nowhere").exists()


def start(folder: Path, address: str) -> subprocess.Popen[bytes]:
    """Start `marc watch`; what it says is appended to `said.txt`."""
    command = [
        sys.executable, "-m", "jobs.watch", f"gate={address}", "--memory", str(folder / "memory"),
        f"watch.folder={folder / 'live'}", "watch.segment_s=4", "memory.store_features=false",
        "watch.end_s=600", "text.speech=off", "text.writing=off",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("RAY_ADDRESS", None)
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(command, stderr=said, env=env, cwd=folder)


def wait_for_rows(watch: subprocess.Popen[bytes], folder: Path, count: int) -> list[dict]:
    """Return the rows of `videos` when there are so many; the watcher must live until then."""
    until = time.monotonic() + 600
    rows: list[dict] = []
    while time.monotonic() < until and watch.poll() is None:
        with contextlib.suppress(MemoryStoreError):  # it is about to be made
            rows = MemoryStore.open(MemoryConfig(uri=str(folder / "memory"))).videos().to_pylist()
        if len(rows) >= count:
            return rows
        time.sleep(0.3)
    said = (folder / "said.txt").read_text()
    raise AssertionError(f"{len(rows)} of {count} videos; exit code {watch.poll()}; {said}")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_it_goes_on_and_a_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    with LiveHls(kept=1500) as live:
        threading.Thread(target=live.play, args=(1500,), daemon=True).start()
        first = start(tmp_path, live.address)
        before = wait_for_rows(first, tmp_path, 2)
        first.kill()
        first.wait()
        second = start(tmp_path, live.address)
        wait_for_rows(second, tmp_path, len(before) + 2)
        second.send_signal(signal.SIGTERM)
        second.wait(timeout=700)
    said = (tmp_path / "said.txt").read_text()
    assert second.returncode == 0, said
    assert "holds" in said
    assert not list((tmp_path / "live").rglob(".*.mkv"))
    store = MemoryStore.open(MemoryConfig(uri=str(tmp_path / "memory")))
    rows = store.videos().to_pylist()
    assert {row["status"] for row in rows} == {"indexed"}
    assert len(rows) == len(list((tmp_path / "live").rglob("*.mkv")))
    spans = sorted(
        (r["recorded_at"].timestamp(), r["recorded_at"].timestamp() + r["duration_s"]) for r in rows
    )
    holes = [b[0] - a[1] for a, b in itertools.pairwise(spans)]
    recorded = sum((g.until - g.since).total_seconds() for g in store.gaps() if g.until)
    assert sum(hole for hole in holes if hole > 0.5) <= recorded + 1.5
