"""Ten minutes of a live source: from happening to searchable, gaps, memory.

    python -m benchmarks.live [--minutes 10]

A process of its own serves live HLS on loopback (a piece of 2 s every 2 s, textures that change
every 8 s, EXT-X-PROGRAM-DATE-TIME) and fails on purpose: a short break, a long one in which the
playlist moves on, a clock that jumps by an hour, another picture size. `Watch` records and indexes
it in this process without Ray; another connection to the memory looks twice a second which events
it finds. Reports, per event, the time from its end until it was found, and what of the pictures
that were served is neither in the memory nor in a recorded gap.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import hardware
from benchmarks.processes import TreeCpu, descendants, pss_bytes
from marc_core.config import MemoryConfig, load_config
from marc_core.live.config import WatchJobConfig
from marc_core.memory import MemoryStore
from marc_core.memory.tables import scan
from tests.live_hls import FPS, LiveHls

PIECE_S = 2.0
KEPT = 6
AHEAD_S = 3600.0
LOOK_S = 0.5


def serve(minutes: float) -> None:
    """Serve the source; print the address, then what was served as JSON."""
    minute = minutes * 6  # seconds of a tenth
    with LiveHls(kept=KEPT, seconds=PIECE_S) as live:
        print(live.address, flush=True)
        live.play(2 * minute)
        live.is_down = True
        live.play(8)  # the playlist still names all of it afterwards
        live.is_down = False
        live.play(2 * minute)
        live.is_down = True
        live.play(30)  # and this time it does not
        live.is_down = False
        live.play(2 * minute)
        live.play(2 * minute, clock_ahead_s=AHEAD_S)
        live.play(2 * minute, size=(320, 192))
        print(json.dumps({"served": live.starts}), flush=True)
        sys.stdin.readline()


class Found(threading.Thread):
    """Looks for events as any reader does, and notes when each was found first."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self.uri, self.stop = uri, threading.Event()
        self.events: dict[str, tuple[float, float, float]] = {}  # id -> from, to, found
        self.memory: list[tuple[float, float]] = []

    def run(self) -> None:
        """Look until told to stop."""
        started, store = time.time(), None
        while not self.stop.wait(LOOK_S):
            if store is None and Path(self.uri, "events.lance").is_dir():
                store = MemoryStore.open(MemoryConfig(uri=self.uri), cache_bytes=64 << 20)
            if store is not None:
                self._look(store)
            if time.time() - started >= 10 * len(self.memory):
                total = sum(
                    pss_bytes(p) for p, line in descendants().items() if "serve" not in line
                )
                self.memory.append((time.time() - started, total / 2**20))

    def _look(self, store: MemoryStore) -> None:
        found_s = time.time()
        rows = scan(store.tables.events, ["event_id", "recorded_from", "recorded_to"])
        for event_id, since, until in zip(*rows.to_pydict().values(), strict=True):
            if event_id not in self.events:
                self.events[event_id] = (since.timestamp(), until.timestamp(), found_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    if args.serve:
        serve(args.minutes)
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(run(args.minutes, scratch), indent=2))


def run(minutes: float, scratch: str) -> dict[str, Any]:
    """Serve, watch, look; return the figures."""
    from pipelines.live import Watch

    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live", "--serve", "--minutes", str(minutes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    memory = f"{scratch}/memory"
    config = load_config(
        WatchJobConfig, preset="tiny",
        overrides=[
            f"watch.sources.gate.address='{address}'", f"watch.folder='{scratch}/live'",
            f"memory.uri='{memory}'", "watch.retry_most_s=4",
        ],
    )  # fmt: skip
    watch, found, stop = Watch(config), Found(memory), threading.Event()
    served: list[Any] = []

    def wait() -> None:
        assert server.stdout is not None
        served.append(json.loads(server.stdout.readline())["served"])
        time.sleep(2 * PIECE_S)
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    found.start()
    started = time.monotonic()
    with TreeCpu() as cpu:
        watch.run(stop)
    took_s = time.monotonic() - started
    time.sleep(2.0)
    found.stop.set()
    found.join()
    server.communicate("\n")
    return figures(watch.store, found, served[0], took_s, cpu.seconds)


def figures(
    store: MemoryStore, found: Found, served: list[float], took_s: float, cpu_s: float
) -> dict[str, Any]:
    """Return what came of it."""
    delays, own = [], []
    for since, until, found_s in found.events.values():
        ahead_s = AHEAD_S if until > found_s + AHEAD_S / 2 else 0.0
        delays.append(found_s - (until - ahead_s))
        own.append(until - since)
    videos = store.videos().to_pylist()
    gaps = store.gaps()
    spans = [
        (v["recorded_at"].timestamp(), v["recorded_at"].timestamp() + v["duration_s"])
        for v in videos
        if v["recorded_at"]
    ]
    holes = [(g.since.timestamp(), g.until.timestamp()) for g in gaps if g.until]
    middles = [start + PIECE_S / 2 for start in served if start >= spans[0][0] - PIECE_S / 2]
    missing = [m for m in middles if not any(a <= m < b for a, b in spans)]
    memory = np.array(found.memory)
    by_minute = [
        round(float(np.median(memory[(memory[:, 0] // 60) == m, 1])))
        for m in range(int(memory[-1, 0] // 60))
    ]
    return {
        "hardware": hardware(),
        "seconds": round(took_s, 1),
        "events": len(delays),
        "segments": len(videos),
        "failed": sum(v["status"] != "indexed" for v in videos),
        "event_s_median": round(float(np.median(own)), 2),
        "end_of_event_to_found_s": {
            "p50": round(float(np.percentile(delays, 50)), 2),
            "p95": round(float(np.percentile(delays, 95)), 2),
            "max": round(max(delays), 2),
        },
        "within_10_s": round(float(np.mean(np.array(delays) <= 10)), 4),
        "pieces_served": len(middles),
        "pieces_not_recorded": len(missing),
        "of_them_in_no_gap": sum(not any(a <= m < b for a, b in holes) for m in missing),
        "frames": {"indexed": sum(v["num_frames"] or 0 for v in videos),
                   "served_and_recorded": round((len(middles) - len(missing)) * PIECE_S * FPS)},
        "gaps": [
            {"seconds": round((g.until - g.since).total_seconds(), 2) if g.until else None,
             "reason": g.reason}
            for g in gaps
        ],
        "memory_mib_by_minute": by_minute,
        "cpu_seconds": round(cpu_s, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
