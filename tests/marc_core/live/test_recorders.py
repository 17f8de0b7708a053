"""Recording children: killed ones come back, stopped ones close their segment."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
from pathlib import Path

import pytest

from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.recorders import Inbox, RecorderProcess
from tests.live_hls import LiveHls


def hear(inbox: Inbox, what: str) -> dict:
    while True:
        _, message = inbox.get(timeout=60)
        if message["what"] == what:
            return message


@pytest.mark.slow
def test_a_killed_recorder_comes_back_and_loses_nothing(tmp_path: Path) -> None:
    inbox: Inbox = queue.SimpleQueue()
    config = WatchConfig(folder=str(tmp_path), segment_s=2.0, retry_first_s=0.1)
    with LiveHls(kept=600) as live:
        threading.Thread(target=live.play, args=(120,), daemon=True).start()
        recorder = RecorderProcess("gate", SourceConfig(address=live.address), config, inbox)
        first = hear(inbox, "closed")
        assert recorder.pid is not None
        os.kill(recorder.pid, signal.SIGKILL)
        assert hear(inbox, "state")["state"] == "died"
        closed = [hear(inbox, "closed") for _ in range(3)]
        recorder.stop()
        recorder.join(20)
    spans = [(first["from"], first["until"]), *((c["from"], c["until"]) for c in closed)]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert not list(tmp_path.rglob(".*.mkv"))
    assert len(list(tmp_path.rglob("*.mkv"))) >= 4
