"""Ten minutes of a live source: from happening to searchable, gaps, memory.

    python -m benchmarks.live [--minutes 10]

A process of its own serves live HLS on loopback (a piece of 2 s every 2 s, textures that change
every 8 s with a sign in them, EXT-X-PROGRAM-DATE-TIME) and fails on purpose: a short break, a long
one in which the playlist moves on, a clock that jumps by an hour, another picture size. `marc
watch` records and indexes it without Ray; this process looks twice a second which events its own
connection to the memory finds, and which of them have text. Reports, per event, the time from its
end until it and its text were found, what of the pictures that were served is neither in the memory
nor in a recorded gap, and the memory of each of the processes by minute.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import hardware
from benchmarks.processes import cpu_s, descendants, private_mib, pss_bytes
from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore
from marc_core.memory.tables import scan
from tests.live_hls import FPS, LiveHls

PIECE_S = 2.0
KEPT = 6
AHEAD_S = 3600.0
LOOK_S = 0.5
SAMPLE_S = 5.0
ROLES = {
    "live.recorder": "recorder", "video.child": "decoder", "text_makers": "texts",
    "jobs.watch": "watch",
}  # fmt: skip
"""What stands in the command lines of the processes of `marc watch`, and what they are; those below
the maker of texts count as its own."""


def serve(minutes: float) -> None:
    """Serve the source; print the address, then what was served as JSON."""
    minute = minutes * 6  # seconds of a tenth
    with LiveHls(kept=KEPT, seconds=PIECE_S) as live:
        print(live.address, flush=True)
        live.play(2 * minute, sign=True)
        live.is_down = True
        live.play(8, sign=True)  # the playlist still names all of it afterwards
        live.is_down = False
        live.play(2 * minute, sign=True)
        live.is_down = True
        live.play(30, sign=True)  # and this time it does not
        live.is_down = False
        live.play(2 * minute, sign=True)
        live.play(2 * minute, sign=True, clock_ahead_s=AHEAD_S)
        live.play(2 * minute, sign=True, size=(320, 192))
        print(json.dumps({"served": live.starts}), flush=True)
        sys.stdin.readline()


class Found(threading.Thread):
    """Looks for events as any reader does, and notes when each, and its text, was found first."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self.uri, self.stop = uri, threading.Event()
        self.events: dict[str, tuple[float, float, float]] = {}  # id -> from, to, found
        self.texts: dict[str, float] = {}  # id -> found

    def run(self) -> None:
        """Look until told to stop."""
        store = None
        while not self.stop.wait(LOOK_S):
            if store is None and Path(self.uri, "events.lance").is_dir():
                store = MemoryStore.open(MemoryConfig(uri=self.uri), cache_bytes=64 << 20)
            if store is not None:
                self._look(store)

    def _look(self, store: MemoryStore) -> None:
        found_s = time.time()
        columns = ["event_id", "recorded_from", "recorded_to", "text"]
        rows = scan(store.tables.events, columns).to_pydict().values()
        for event_id, since, until, text in zip(*rows, strict=True):
            self.events.setdefault(event_id, (since.timestamp(), until.timestamp(), found_s))
            if text is not None:
                self.texts.setdefault(event_id, found_s)


class Processes(threading.Thread):
    """Notes the memory of the processes of `marc watch`, and the CPU time that they have had."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.stop = root, threading.Event()
        self.samples: list[tuple[float, dict[str, float]]] = []
        self.cpu_s: dict[int, float] = {}
        self.load: list[float] = []

    def run(self) -> None:
        """Look until told to stop."""
        started = time.monotonic()
        while not self.stop.wait(SAMPLE_S):
            found: dict[str, float] = {"all": 0.0}
            for pid, line in descendants(self.root).items():
                role = next((name for part, name in ROLES.items() if part in line), "texts")
                found[role] = found.get(role, 0.0) + private_mib(pid)
                found["all"] += pss_bytes(pid) / 2**20
                self.cpu_s[pid] = max(cpu_s(pid), self.cpu_s.get(pid, 0.0))
            self.load.append(os.getloadavg()[0])
            self.samples.append((time.monotonic() - started, found))

    def by_minute(self) -> dict[str, list[int]]:
        """Return the medians of each whole minute, MiB, by process."""
        minutes = [
            [found for at, found in self.samples if int(at // 60) == minute]
            for minute in range(int(self.samples[-1][0] // 60))
        ]
        roles = sorted({role for _, found in self.samples for role in found})
        return {
            role: [round(float(np.median([one.get(role, 0.0) for one in m]))) for m in minutes if m]
            for role in roles
        }


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
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live", "--serve", "--minutes", str(minutes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    memory = f"{scratch}/memory"
    started = time.monotonic()
    watch = subprocess.Popen(
        [sys.executable, "-m", "jobs.watch", f"gate={address}", "--memory", memory, "--json",
         f"watch.folder={scratch}/live", "watch.retry_most_s=4"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found, processes = Found(memory), Processes(watch.pid)
    found.start()
    processes.start()
    served = json.loads(server.stdout.readline())["served"]
    time.sleep(2 * PIECE_S)
    processes.stop.set()
    processes.join()
    watch.send_signal(signal.SIGTERM)
    report = json.loads(watch.communicate()[0])
    took_s = time.monotonic() - started
    time.sleep(2.0)
    found.stop.set()
    found.join()
    server.communicate("\n")
    store = MemoryStore.open(MemoryConfig(uri=memory))
    return figures(store, found, processes, served, took_s) | {"texts_left": report["texts"]}


def figures(
    store: MemoryStore, found: Found, processes: Processes, served: list[float], took_s: float
) -> dict[str, Any]:
    """Return what came of it."""
    delays, own, text_delays = [], [], []
    for event_id, (since, until, found_s) in found.events.items():
        ahead_s = AHEAD_S if until > found_s + AHEAD_S / 2 else 0.0
        delays.append(found_s - (until - ahead_s))
        own.append(until - since)
        if event_id in found.texts:
            text_delays.append(found.texts[event_id] - (until - ahead_s))
    videos = store.videos().to_pylist()
    gaps = store.gaps()
    spans = [
        (v["recorded_at"].timestamp(), v["recorded_at"].timestamp() + v["duration_s"])
        for v in videos
        if v["recorded_at"]
    ]
    holes = [(g.since.timestamp(), g.until.timestamp()) for g in gaps if g.until]
    holes = [(a, b) for a, b in holes if b - a < AHEAD_S / 2]  # a clock that jumps loses nothing
    middles = [start + PIECE_S / 2 for start in served if start >= min(spans)[0] - PIECE_S / 2]
    missing = [m for m in middles if not any(a <= m < b for a, b in spans)]
    return {
        "hardware": hardware(),
        "load": spread(processes.load),
        "seconds": round(took_s, 1),
        "events": len(delays),
        "segments": len(videos),
        "failed": sum(v["status"] != "indexed" for v in videos),
        "event_s_median": round(float(np.median(own)), 2),
        "end_of_event_to_found_s": spread(delays),
        "within_10_s": round(float(np.mean(np.array(delays) <= 10)), 4),
        "end_of_event_to_text_found_s": spread(text_delays),
        "events_with_text": len(text_delays),
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
        "memory_mib_by_minute": processes.by_minute(),
        "cpu_seconds": round(sum(processes.cpu_s.values()), 1),
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and most; nothing of nothing."""
    if not values:
        return {}
    p50, p95, most = (round(float(np.percentile(values, q)), 2) for q in (50, 95, 100))
    return {"p50": p50, "p95": p95, "max": most}


if __name__ == "__main__":
    main()
