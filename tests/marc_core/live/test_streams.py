"""Streams that FFmpeg reads: over a socket, and RTSP with its sender reports."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.readers import SourceDown, StreamReader
from tests.live_hls import encode_piece
from tests.marc_core.live.test_recording import Recorded, pictures

PUSHER = """
import sys, time
from fractions import Fraction
import av, numpy as np
address, count = sys.argv[1], int(sys.argv[2])
for _ in range(100):
    try:
        out = av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"})
        video = out.add_stream("libx264", rate=10, options={"tune": "zerolatency", "g": "10"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        out.start_encoding()
        break
    except (av.FFmpegError, OSError):
        time.sleep(0.1)
start = time.time()
print(start, flush=True)
for i in range(count):
    frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), i * 5 % 255, np.uint8), format="rgb24")
    frame.pts, frame.time_base = i, Fraction(1, 10)
    out.mux(video.encode(frame))
    time.sleep(max(0.0, start + (i + 1) / 10 - time.time()))
out.mux(video.encode())
out.close()
"""


def read(address: str, made: Recorded, **options: str) -> str:
    """Read one connection to its end; return how it ended."""
    config = WatchConfig(open_timeout_s=20, stall_s=5)
    reader = StreamReader(SourceConfig(address=address, options=options), config)
    with pytest.raises(SourceDown) as down:
        reader.read(made.recording, lambda: None, threading.Event())
    made.recording.close()
    return str(down.value)


def test_a_stream_over_a_socket_has_the_clock_of_its_arrival(tmp_path: Path) -> None:
    made = Recorded(tmp_path, segment_s=2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for number in range(4):
                    connection.sendall(encode_piece(number, sound=number > 1))

        threading.Thread(target=send).start()
        before = time.time()
        read(f"tcp://127.0.0.1:{server.getsockname()[1]}", made, format="mpegts")
    assert sum(pictures(f)[0] for f in made.files) == 40
    beside = json.loads(made.files[0].with_suffix(".json").read_text())
    assert "clock:arrival" in beside["tags"]
    assert abs(made.spool.start_of(made.files[0]) - before) < 30
    assert made.gaps == []


def test_ffmpeg_may_open_what_the_scheme_needs_and_no_files() -> None:
    for pattern in WatchConfig().allow:
        scheme = pattern.split("://")[0]
        options = StreamReader(SourceConfig(address=f"{scheme}://h/s"), WatchConfig())._options()
        protocols = options["protocol_whitelist"].split(",")
        assert scheme in protocols
        assert not {"file", "concat", "pipe", "subfile", "data"} & set(protocols)


def test_a_host_that_nobody_knows_is_said(tmp_path: Path) -> None:
    said = read("rtsp://admin:hunter2@nobody.invalid/s", Recorded(tmp_path))
    assert said == "OSError: the host's name is not known"


@pytest.mark.slow
def test_rtsp_has_the_clock_of_its_sender_reports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"rtsp://127.0.0.1:{port}/live"
    made = Recorded(tmp_path, segment_s=2.0)
    command = [sys.executable, "-c", textwrap.dedent(PUSHER), address, "80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pusher:
        read(address, made, rtsp_flags="listen", listen_timeout="60")
        start = float(pusher.communicate()[0])
    assert sum(pictures(f)[0] for f in made.files) >= 60  # FFmpeg looks at the first ones to begin
    beside = [json.loads(f.with_suffix(".json").read_text()) for f in made.files]
    tags = {tag for one in beside for tag in one["tags"]}
    assert "clock:rtcp" in tags
    assert -0.5 < made.spool.start_of(made.files[-1]) - start < 9.0
    assert made.gaps == []
