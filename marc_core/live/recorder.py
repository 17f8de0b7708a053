"""The recording child: `python -m marc_core.live.recorder`, one process a source.

    stdin:  one JSON line (what to record); `stop` or its end closes the segment and ends
    stdout: a JSON line for everything that happened: locked (nobody else writes here now), closed,
            gap, state, alive

A camera that sends what crashes or stalls FFmpeg costs its own recorder only. The child never
outlives its parent, and closes its segment first.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from marc_core.errors import SourceError
from marc_core.live.addresses import kind_of
from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.hls import HlsReader
from marc_core.live.readers import Reader, SourceDown, StreamReader
from marc_core.live.recording import Recording
from marc_core.live.spool import Spool

if TYPE_CHECKING:
    from av import Packet

_ALIVE_S = 1.0
"""Between two signs of life (our choice)."""
_CLOSE_S = 2.0
"""How long a reader that is to stop may take before its segment is closed over its head (our
choice): it may wait in FFmpeg for packets."""


def request_of(source_id: str, source: SourceConfig, config: WatchConfig) -> str:
    """Return the line that tells a child what to record."""
    plain = asdict(config) | {"sources": {}}
    return json.dumps({"id": source_id, "source": asdict(source), "config": plain})


def main() -> None:
    """Record until stdin says stop, or ends."""
    request = json.loads(sys.stdin.readline())
    told = _Telling()
    source = SourceConfig(**_tuples(request["source"]))
    config = WatchConfig(**_tuples(request["config"]))
    spool = Spool(config.folder, request["id"], source.camera, source.tags)
    try:
        spool.lock()
    except SourceError as error:
        told.tell({"what": "state", "state": "refused", "reason": str(error)})
        os._exit(3)
    told.tell({"what": "locked"})
    recording = _Locked(Recording(spool, config, told.tell))
    stop = threading.Event()
    ended = threading.Event()
    for work in (_wait_for_stop, _stay_alive):
        threading.Thread(target=work, args=(told, recording, stop, ended), daemon=True).start()
    follow(_reader(source, config), recording, config, told, stop)
    recording.close()
    ended.set()
    told.flush_and_exit()


def _reader(source: SourceConfig, config: WatchConfig) -> Reader:
    return HlsReader(source, config) if kind_of(source) == "hls" else StreamReader(source, config)


def follow(
    reader: Reader, recording: Any, config: WatchConfig, told: _Telling, stop: threading.Event
) -> None:
    """Read connection after connection until `stop`, with pauses that grow while nothing comes."""
    pause_s = config.retry_first_s
    chance = random.SystemRandom()
    while not stop.is_set():
        before = recording.until_s
        try:
            reader.read(recording, told.alive, stop)
        except SourceDown as down:
            recording.lost(str(down))
            told.tell({"what": "state", "state": "waiting", "reason": str(down)})
        if recording.until_s != before:
            pause_s = config.retry_first_s
        stop.wait(pause_s * chance.uniform(0.5, 1.5))
        told.alive()
        pause_s = min(2 * pause_s, config.retry_most_s)


class _Telling:
    """Lines to the parent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.signs = 0

    def alive(self) -> None:
        """Note a sign of life."""
        self.signs += 1

    def tell(self, message: dict[str, Any]) -> None:
        """Write a line; where nobody reads it any more, the end of stdin says so, too."""
        with self._lock:
            try:
                sys.stdout.write(json.dumps(message) + "\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):
                return

    def flush_and_exit(self) -> None:
        """End the process without waiting for threads that hang in a read."""
        self.tell({"what": "state", "state": "stopped", "reason": ""})
        os._exit(0)


class _Locked:
    """A Recording that two threads use: the reader, and who closes it when all is to end."""

    def __init__(self, recording: Recording) -> None:
        self._recording, self._lock, self._closed = recording, threading.Lock(), False

    @property
    def until_s(self) -> float | None:
        """As `Recording.until_s`."""
        return self._recording.until_s

    def put(self, packet: Packet[Any], *, wall_s: float | None = None, clock: str = "") -> None:
        """As `Recording.put`; nothing once it is closed for good."""
        self._do(lambda: self._recording.put(packet, wall_s=wall_s, clock=clock))

    def connected(self, reason: str = "a new connection") -> None:
        """As `Recording.connected`."""
        self._do(lambda: self._recording.connected(reason))

    def ended(self) -> None:
        """As `Recording.ended`."""
        self._do(self._recording.ended)

    def lost(self, reason: str) -> None:
        """As `Recording.lost`."""
        self._do(lambda: self._recording.lost(reason))

    def close(self) -> None:
        """Close the segment for good."""
        self._do(self._recording.close)
        self._closed = True

    def _do(self, work: Callable[[], None]) -> None:
        with self._lock:
            if not self._closed:
                work()


def _wait_for_stop(
    told: _Telling, recording: _Locked, stop: threading.Event, ended: threading.Event
) -> None:
    sys.stdin.readline()
    stop.set()
    if not ended.wait(_CLOSE_S):
        recording.close()
        told.flush_and_exit()


def _stay_alive(told: _Telling, _: _Locked, stop: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(_ALIVE_S):
        told.tell({"what": "alive", "signs": told.signs})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Return values of JSON as the configuration has them."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


if __name__ == "__main__":
    main()
