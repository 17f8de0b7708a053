"""Recording children: killed ones come back, stopped ones close their segment."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import queue
import signal
import threading
import time
from pathlib import Path

import pytest

from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.recorders import Inbox, RecorderProcess
from tests.live_hls import LiveHls


def hear(inbox: Inbox, what: str, **values: str) -> dict:
    """Return the next message of this kind with these values."""
    until = time.monotonic() + 300
    while True:
        _, message = inbox.get(timeout=max(0.0, until - time.monotonic()))
        if message["what"] == what and values.items() <= message.items():
            return message


def moment(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_killed_recorder_comes_back_and_loses_nothing(tmp_path: Path) -> None:
    inbox: Inbox = queue.SimpleQueue()
    config = WatchConfig(folder=str(tmp_path), segment_s=2.0, retry_first_s=0.1)
    with LiveHls(kept=600) as live:
        threading.Thread(target=live.play, args=(600,), daemon=True).start()
        recorder = RecorderProcess("gate", SourceConfig(address=live.address), config, inbox)
        hear(inbox, "locked")
        first = hear(inbox, "closed")
        assert recorder.pid is not None
        os.kill(recorder.pid, signal.SIGKILL)
        hear(inbox, "state", state="died")
        hear(inbox, "locked")
        closed = [hear(inbox, "closed") for _ in range(3)]
        recorder.stop()
        recorder.join(60)
    spans = [(moment(one["from"]), moment(one["until"])) for one in (first, *closed)]
    assert all(
        a[1] <= b[0] + 0.002 for a, b in itertools.pairwise(spans)
    )  # told to the millisecond
    assert not list(tmp_path.rglob(".*.mkv"))
    assert len(list(tmp_path.rglob("*.mkv"))) >= 4
